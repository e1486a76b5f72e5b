"""What differs between database servers: drivers, passwords, clocks, upserts, ranges, and what their errors mean.

Where passwords come from, because a URL has none: PostgreSQL's own library looks into ``PGPASSWORD``, ``~/.pgpass`` and
the other places of libpq; MySQL and MariaDB have ``MYSQL_PWD`` and the section ``[client]`` of ``~/.my.cnf``, as their
own tools do; Oracle has ``ORACLE_PASSWORD``.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.engine import URL
from sqlalchemy.sql.elements import ColumnElement

from modelfs import limits
from modelfs.errors import (
    AlreadyExistsError,
    NotFoundError,
    PermanentError,
    PermissionDeniedError,
    ReadOnlyError,
    TransientError,
    UsageError,
)

# Names are compared byte by byte everywhere, so that listings come in one order and no two names are the same.
_ASCII: Final = mysql.VARCHAR(512, charset="ascii", collation="ascii_bin")
NAME: Final = (
    sa.String(512).with_variant(sa.String(512, collation="C"), "postgresql").with_variant(_ASCII, "mysql", "mariadb")
)
DATA: Final = sa.LargeBinary().with_variant(mysql.LONGBLOB(), "mysql", "mariadb")

Kind = type[Exception]


class Dialect:
    """One kind of server. The base is what most have in common."""

    driver = ""  # SQLAlchemy's name of dialect and driver
    clock = ""  # SQL for the seconds since the epoch
    local = False
    watched = False  # the driver has no timeout for an answer that does not come
    cuts = True  # the server cuts ranges out of a value
    statement_max = ""  # SQL for the longest statement in bytes, where it is limited
    statement_setting = ""
    options: Mapping[str, Any] = {}  # a mapping that nobody changes
    single: Mapping[str, Any] = {}  # for one statement alone, where that saves requests

    def located(self, url: URL, *, create: bool) -> URL:
        """The URL, complete. UsageError."""
        if not url.database:
            raise UsageError(f"{url.render_as_string()}: no database in the URL")
        return url

    def driver_url(self, url: URL) -> URL:
        """As SQLAlchemy wants it."""
        return url.set(drivername=self.driver)

    def arguments(self, url: URL, timeout: float) -> dict[str, Any]:
        """For the driver's connect(). ``timeout``: seconds for one request."""
        raise NotImplementedError

    def prepare(self, engine: sa.Engine) -> None:
        """What every new connection needs."""

    def piece(self, part: ColumnElement[Any], data: ColumnElement[Any], start: int, end: int) -> ColumnElement[Any]:
        """What of ``data`` lies in a range of the object, for the parts that it touches."""
        first, last = start // limits.SQL_PART, (end - 1) // limits.SQL_PART
        begin, rest = start - first * limits.SQL_PART, end - last * limits.SQL_PART
        if first == last:
            return sa.func.substr(data, begin + 1, end - start, type_=sa.LargeBinary)
        return sa.case(
            (part == first, sa.func.substr(data, begin + 1, limits.SQL_PART, type_=sa.LargeBinary)),
            (part == last, sa.func.substr(data, 1, rest, type_=sa.LargeBinary)),
            else_=data,
        )

    def upsert(self, table: sa.Table, values: Mapping[str, Any]) -> Sequence[sa.Executable]:
        """Write a row over what is there, without a moment when it is missing (in a transaction)."""
        raise NotImplementedError

    def judge(self, error: BaseException) -> Kind:
        """Which of our errors one of the driver's is; NotFoundError: the table is missing."""
        raise NotImplementedError


class Sqlite(Dialect):
    """A file of this machine; several processes may use it."""

    driver = "sqlite+pysqlite"
    clock = "(julianday('now') - 2440587.5) * 86400.0"
    local = True

    # SQLITE_BUSY, LOCKED, NOMEM, IOERR, PROTOCOL: others are at it, or the disk stumbled.
    _PASSING = frozenset({5, 6, 7, 10, 15})

    def located(self, url: URL, *, create: bool) -> URL:
        path = Path(url.database or "")
        if url.host or not path.is_absolute():  # a daemon has another working directory
            raise UsageError(f"a store in SQLite is an absolute path: sqlite:///{Path(path.name or 'FILE').absolute()}")
        if not create and not path.is_file():
            raise UsageError(f"no such file: {path} (`modelfs init` makes a store)")
        if not path.parent.is_dir():
            raise UsageError(f"no such directory: {path.parent}")
        return url

    def arguments(self, url: URL, timeout: float) -> dict[str, Any]:
        return {"timeout": timeout, "check_same_thread": False}

    def prepare(self, engine: sa.Engine) -> None:
        def configure(connection: Any, record: object) -> None:
            # Readers and a writer do not wait for each other, and what was acknowledged survives a power cut. A file
            # that may only be read keeps the mode it was made with.
            if os.access(engine.url.database or "", os.W_OK):
                connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")

        sa.event.listen(engine, "connect", configure)

    def upsert(self, table: sa.Table, values: Mapping[str, Any]) -> Sequence[sa.Executable]:
        statement = sqlite.insert(table).values(values)
        new = {name: statement.excluded[name] for name in ("total", "modified", "data")}
        return [statement.on_conflict_do_update(index_elements=["name", "part"], set_=new)]

    def judge(self, error: BaseException) -> Kind:
        code = int(getattr(error, "sqlite_errorcode", 0))
        if code in (1555, 2067):  # SQLITE_CONSTRAINT_PRIMARYKEY, _UNIQUE
            return AlreadyExistsError
        if "no such table" in str(error):
            return NotFoundError
        if code & 0xFF in self._PASSING:
            return TransientError
        return {3: PermissionDeniedError, 8: ReadOnlyError, 23: PermissionDeniedError}.get(code & 0xFF, PermanentError)


class Postgresql(Dialect):
    """PostgreSQL through psycopg 3."""

    driver = "postgresql+psycopg"
    clock = "extract(epoch FROM clock_timestamp())"
    watched = True
    single: Mapping[str, Any] = {"isolation_level": "AUTOCOMMIT"}  # neither BEGIN nor COMMIT is sent

    # By SQLSTATE, the longest beginning that is known. Connections (08), conflicts (40), resources (53), an operator
    # or a restart (57P), locks (55P03), a statement that was stopped for its time (57014).
    _KINDS: Mapping[str, Kind] = {
        "08": TransientError,
        "23505": AlreadyExistsError,
        "25006": ReadOnlyError,
        "28": PermissionDeniedError,
        "40": TransientError,
        "42501": PermissionDeniedError,
        "42P01": NotFoundError,
        "53": TransientError,
        "53100": PermanentError,  # the disk is full
        "55P03": TransientError,
        "57": TransientError,
        "58": TransientError,
    }
    # Of a connection that fails there is only a text.
    _REFUSED = (
        "authentication failed",
        "no password supplied",
        "no pg_hba.conf entry",
        "permission denied for database",
    )
    _WRONG = ("does not exist",)

    def arguments(self, url: URL, timeout: float) -> dict[str, Any]:
        import psycopg

        class BinaryCursor(psycopg.Cursor[Any]):
            """Results as the server has them: as text, bytes would be twice as long."""

            def __init__(self, *arguments: Any, **words: Any) -> None:
                super().__init__(*arguments, **words)
                self.format = psycopg.pq.Format.BINARY

        return {
            "connect_timeout": max(2, int(min(timeout, limits.STORE_CONNECT_TIMEOUT))),  # libpq knows no less than 2
            "options": f"-c statement_timeout={int(timeout * 1000)}",
            "application_name": "modelfs",
            "cursor_factory": BinaryCursor,
        }

    def upsert(self, table: sa.Table, values: Mapping[str, Any]) -> Sequence[sa.Executable]:
        statement = postgresql.insert(table).values(values)
        new = {name: statement.excluded[name] for name in ("total", "modified", "data")}
        return [statement.on_conflict_do_update(index_elements=["name", "part"], set_=new)]

    def judge(self, error: BaseException) -> Kind:
        state = getattr(error, "sqlstate", None)
        if state:
            return self._KINDS.get(state) or self._KINDS.get(state[:2]) or PermanentError
        text = str(error)
        if any(words in text for words in self._REFUSED):
            return PermissionDeniedError
        if "does not exist" in text:  # the database or the role
            return PermanentError
        return TransientError if type(error).__name__ in ("OperationalError", "ConnectionTimeout") else PermanentError


class Mysql(Dialect):
    """MySQL and MariaDB through PyMySQL."""

    driver = "mysql+pymysql"
    clock = "unix_timestamp()"
    statement_max = "SELECT @@max_allowed_packet"
    statement_setting = "max_allowed_packet"
    # With the default, a DELETE locks gaps between keys, and writers of neighbours wait for each other or deadlock.
    options: Mapping[str, Any] = {"isolation_level": "READ COMMITTED"}

    _KINDS: Mapping[int, Kind] = {
        **dict.fromkeys((1044, 1045, 1142, 1143, 1227, 1370, 1698), PermissionDeniedError),
        **dict.fromkeys((1062, 1586), AlreadyExistsError),
        1146: NotFoundError,
        **dict.fromkeys((1290, 1792, 1836), ReadOnlyError),
        # Too many connections, shutting down, deadlock, lock timeout, killed, broken packets, and the client's own:
        # cannot connect, gone away, lost.
        **dict.fromkeys((1040, 1053, 1152, 1158, 1159, 1160, 1161, 1203, 1205, 1213, 1226, 1317), TransientError),
        **dict.fromkeys((1927, 2002, 2003, 2006, 2013, 2055), TransientError),
    }

    def arguments(self, url: URL, timeout: float) -> dict[str, Any]:
        arguments: dict[str, Any] = {
            "connect_timeout": max(1, int(min(timeout, limits.STORE_CONNECT_TIMEOUT))),
            "read_timeout": max(1, int(timeout)),
            "write_timeout": max(1, int(timeout)),
            "program_name": "modelfs",
        }
        if password := os.environ.get("MYSQL_PWD"):
            arguments["password"] = password
        if (file := Path("~/.my.cnf").expanduser()).is_file():
            arguments["read_default_file"] = str(file)
        return arguments

    def upsert(self, table: sa.Table, values: Mapping[str, Any]) -> Sequence[sa.Executable]:
        statement = mysql.insert(table).values(values)
        new = {name: statement.inserted[name] for name in ("total", "modified", "data")}
        return [statement.on_duplicate_key_update(new)]

    def judge(self, error: BaseException) -> Kind:
        code = error.args[0] if error.args else 0
        return self._KINDS.get(code, PermanentError) if isinstance(code, int) else PermanentError


class Mariadb(Mysql):
    """Its SQL differs in details that SQLAlchemy knows."""

    driver = "mariadb+pymysql"


class Oracle(Dialect):
    """Oracle through python-oracledb without its client library. No server was at hand: its statements are compiled
    and looked at in tests, never run."""

    driver = "oracle+oracledb"
    clock = "(CAST(sys_extract_utc(systimestamp) AS DATE) - DATE '1970-01-01') * 86400"
    cuts = False  # dbms_lob.substr gives 2,000 bytes in SQL: the parts come whole

    _KINDS: Mapping[str, Kind] = {
        "ORA-00001": AlreadyExistsError,
        "ORA-00942": NotFoundError,
        **dict.fromkeys(("ORA-01005", "ORA-01017", "ORA-01031", "ORA-28000", "ORA-28001"), PermissionDeniedError),
        **dict.fromkeys(("ORA-01456", "ORA-16000"), ReadOnlyError),
        # Deadlock, no serialisation, sessions, shutdown, end of file, not connected, listener, timeouts.
        **dict.fromkeys(("ORA-00060", "ORA-08177", "ORA-00018", "ORA-00020", "ORA-01033", "ORA-01034"), TransientError),
        **dict.fromkeys(("ORA-01089", "ORA-03113", "ORA-03114", "ORA-03135", "ORA-12541", "ORA-12170"), TransientError),
        **dict.fromkeys(("DPY-4011", "DPY-4024", "DPY-6005", "DPY-1001"), TransientError),
    }

    def driver_url(self, url: URL) -> URL:
        # `set` takes None for "as it is".
        return URL.create(
            self.driver, url.username, None, url.host, url.port, None, {"service_name": url.database or ""}
        )

    def arguments(self, url: URL, timeout: float) -> dict[str, Any]:
        arguments: dict[str, Any] = {"tcp_connect_timeout": min(timeout, limits.STORE_CONNECT_TIMEOUT)}
        if password := os.environ.get("ORACLE_PASSWORD"):
            arguments["password"] = password
        return arguments

    def prepare(self, engine: sa.Engine) -> None:
        def configure(connection: Any, record: object) -> None:
            connection.call_timeout = int(limits.STORE_REQUEST_TIMEOUT * 1000)
            with connection.cursor() as cursor:  # listings are paged by comparing names as bytes
                cursor.execute("ALTER SESSION SET NLS_SORT = BINARY NLS_COMP = BINARY")

        sa.event.listen(engine, "connect", configure)

    def piece(self, part: ColumnElement[Any], data: ColumnElement[Any], start: int, end: int) -> ColumnElement[Any]:
        return data

    def upsert(self, table: sa.Table, values: Mapping[str, Any]) -> Sequence[sa.Executable]:
        # A MERGE takes no large values. Readers see the old row until the transaction ends.
        columns = table.c
        there = sa.delete(table).where(columns.name == values["name"], columns.part == values["part"])
        return [there, sa.insert(table).values(values)]

    def judge(self, error: BaseException) -> Kind:
        code = getattr(error.args[0], "full_code", "") if error.args else ""
        return self._KINDS.get(code, PermanentError)


DIALECTS: Final[Mapping[str, Dialect]] = {
    "sqlite": Sqlite(),
    "postgresql": Postgresql(),
    "mysql": Mysql(),
    "mariadb": Mariadb(),
    "oracle": Oracle(),
}


class Watchdog:
    """Ends connections that have been lent for longer than a request may take: libpq waits for ever for a server that
    is there and does not answer. Whoever waits then gets the driver's error of a lost connection."""

    def __init__(self, engine: sa.Engine, timeout: float) -> None:
        self._timeout = timeout
        self._lock = threading.Lock()
        self._lent: dict[object, tuple[float, socket.socket]] = {}
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        sa.event.listen(engine, "checkout", self._checkout)
        sa.event.listen(engine, "checkin", self._checkin)

    def close(self) -> None:
        """Watch no more."""
        self._ended.set()

    def _checkout(self, connection: Any, record: object, proxy: object) -> None:
        # A descriptor of our own: it stays the same socket even if the driver closes its own meanwhile.
        try:
            ours = socket.socket(fileno=os.dup(connection.fileno()))
        except Exception as error:  # it is closed: the pool makes another one
            raise sa.exc.DisconnectionError from error
        with self._lock:
            self._lent[record] = (time.monotonic() + self._timeout, ours)
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="database watchdog", daemon=True)
                self._thread.start()

    def _checkin(self, connection: object, record: object) -> None:
        with self._lock:
            lent = self._lent.pop(record, None)
        if lent is not None:
            lent[1].close()

    def _watch(self) -> None:
        while not self._ended.wait(limits.SQL_WATCH):
            now = time.monotonic()
            with self._lock:
                for deadline, connection in self._lent.values():
                    if deadline < now:
                        try:
                            connection.shutdown(socket.SHUT_RDWR)
                        except OSError:
                            continue  # it ended by itself
