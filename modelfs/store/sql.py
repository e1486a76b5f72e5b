"""A table of an SQL database as a store: ``sqlite:////file``, ``postgresql://``, ``mysql://``, ``mariadb://``, ``oracle://``.

One table holds all objects. An object is one row for each `limits.SQL_PART` bytes, so that no statement is larger than
servers take (``max_allowed_packet``); nearly all objects are one row. The primary key is (name, part), compared byte by
byte, and it is what makes creation exclusive: the second INSERT of part 0 fails. Several rows are written in one
transaction and read in one statement, which sees one snapshot. Times are those of the server's clock.

``?table=NAME`` in the URL names another table than ``modelfs``: a database can hold several stores. A password is never
part of the URL; `sqldialects` says where each kind of server has it from. What differs between servers is there, too.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, TypeVar

from modelfs import limits
from modelfs.errors import (
    AlreadyExistsError,
    ExtraMissingError,
    NotFoundError,
    PermanentError,
    PermissionDeniedError,
    TransientError,
    UsageError,
)
from modelfs.store.base import Buffer, ObjectInfo, StoreProperties

try:
    import sqlalchemy as sa
    from sqlalchemy import exc
    from sqlalchemy.engine import URL, make_url
except ImportError as missing:
    raise ExtraMissingError("stores in SQL databases need SQLAlchemy: pip install 'modelfs[sql]'") from missing

from modelfs.store.sqldialects import DATA, DIALECTS, NAME, Dialect, Watchdog

T = TypeVar("T")

_Row = Mapping[str, object]

_TABLE: Final = re.compile(r"[a-z][a-z0-9_]{0,40}")
_DEFAULT_TABLE: Final = "modelfs"


def object_table(name: str) -> sa.Table:
    """The table of a store. ``total``: bytes of the object, in each of its rows; ``modified``: Unix seconds."""
    table = sa.Table(
        name,
        sa.MetaData(),
        sa.Column("name", NAME, primary_key=True),
        sa.Column("part", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("total", sa.BigInteger, nullable=False),
        sa.Column("modified", sa.Double, nullable=False),
        sa.Column("data", DATA),  # Oracle knows no empty value, only none
        mysql_engine="InnoDB",
        mariadb_engine="InnoDB",
    )
    # Out of line and never compressed: chunks are compressed already, and a range is read without the rest.
    external = sa.DDL(  # type: ignore[no-untyped-call]
        "ALTER TABLE %(fullname)s ALTER COLUMN data SET STORAGE EXTERNAL"
    )
    sa.event.listen(table, "after_create", external.execute_if(dialect="postgresql"))
    return table


class SqlStore:
    """The objects in one table. ``create``: the table is made by the first request when it is not there. ``timeout``:
    seconds that one request may take. UsageError for a URL that makes no sense."""

    def __init__(self, url: str, timeout: float = limits.STORE_REQUEST_TIMEOUT, *, create: bool = False) -> None:
        parsed, table = _parsed(url)
        self._dialect: Dialect = DIALECTS[parsed.drivername]
        parsed = self._dialect.located(parsed, create=create)
        shown = parsed.set(query={}).render_as_string(hide_password=True)
        self.url = shown if table == _DEFAULT_TABLE else f"{shown}?table={table}"
        local = self._dialect.local
        self.properties = StoreProperties(parsed.drivername, writable=True, exclusive_put=True, local=local)
        self._table = object_table(table)
        try:
            self._engine = sa.create_engine(
                self._dialect.driver_url(parsed),
                connect_args=self._dialect.arguments(parsed, timeout),
                hide_parameters=True,  # an error would carry chunks, otherwise
                pool_size=limits.SQL_CONNECTIONS,
                max_overflow=0,
                pool_timeout=timeout,
                pool_use_lifo=True,
                poolclass=sa.QueuePool,
                **self._dialect.options,
            )
        except ImportError as error:
            raise ExtraMissingError(
                f"{parsed.drivername}:// needs another library: pip install 'modelfs[sql]'"
            ) from error
        self._single = self._engine.execution_options(**self._dialect.single)
        self._watchdog = Watchdog(self._engine, timeout) if self._dialect.watched else None
        self._dialect.prepare(self._engine)
        self._unmade = create
        self._making = threading.Lock()
        self._statement_max: int | None = None
        if create and local:  # as a directory is; over the network the first contact does it, which has its bound
            self._ask("", lambda connection: None)

    # -- reading ------------------------------------------------------------------------------------------------

    def get(self, key: str) -> bytes:
        columns = self._table.c
        wanted = sa.select(columns.total, columns.data).where(columns.name == key).order_by(columns.part)
        rows = self._ask(key, lambda c: c.execute(wanted).all())
        if not rows:
            raise NotFoundError(f"{self.url} has no object {key}", key)
        data = _joined([row.data for row in rows])
        if len(data) != rows[0].total:
            raise PermanentError(f"{self.url}: {key}: {len(data)} of {rows[0].total} bytes are in the table", key)
        return data

    def get_range(self, key: str, start: int, length: int) -> bytes:
        if length <= 0:
            return b""
        first, last = start // limits.SQL_PART, (start + length - 1) // limits.SQL_PART
        columns = self._table.c
        piece = self._dialect.piece(columns.part, columns.data, start, start + length)
        wanted = sa.select(piece.label("piece")).where(columns.name == key, columns.part.between(first, last))
        rows = self._ask(key, lambda c: c.execute(wanted.order_by(columns.part)).all())
        if not rows and self.size(key) is None:
            raise NotFoundError(f"{self.url} has no object {key}", key)
        data = _joined([row.piece for row in rows])
        return data if self._dialect.cuts else data[start - first * limits.SQL_PART :][:length]

    def size(self, key: str) -> int | None:
        columns = self._table.c
        wanted = sa.select(columns.total).where(columns.name == key, columns.part == 0)
        try:
            return self._ask(key, lambda c: c.execute(wanted).scalar())
        except NotFoundError:  # not even the table
            return None

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        columns = self._table.c
        wanted = sa.select(columns.name, columns.total, columns.modified).where(columns.part == 0)
        if prefix:  # all keys that begin with "a/" are below "a0": "0" comes after "/"
            wanted = wanted.where(columns.name < prefix[:-1] + "0")
        wanted, after = wanted.order_by(columns.name).limit(limits.SQL_PAGE), prefix
        while True:
            page = wanted.where(columns.name > after)
            try:
                rows = self._ask(prefix, lambda c, page=page: c.execute(page).all())  # type: ignore[misc]
            except NotFoundError:
                return
            for row in rows:
                yield ObjectInfo(row.name, row.total, float(row.modified))
            if len(rows) < limits.SQL_PAGE:
                return
            after = rows[-1].name

    # -- writing ------------------------------------------------------------------------------------------------

    def put(self, key: str, data: Buffer) -> None:
        parts = self._parts(key, data)
        columns = self._table.c
        left_over = sa.delete(self._table).where(columns.name == key, columns.part >= len(parts))

        def write(connection: sa.Connection) -> None:
            for part in parts:
                for statement in self._dialect.upsert(self._table, part):
                    connection.execute(statement)
            connection.execute(left_over)

        try:
            self._ask(key, write, writing=True)
        except AlreadyExistsError as error:  # two at once, where a server has no other way
            raise TransientError(f"{self.url}: {key} was written by somebody else at the same moment", key) from error

    def put_if_absent(self, key: str, data: Buffer) -> None:
        parts = self._parts(key, data)

        def write(connection: sa.Connection) -> None:
            for part in parts:
                connection.execute(sa.insert(self._table).values(part))

        self._ask(key, write, writing=True, single=len(parts) == 1)

    def delete(self, key: str) -> None:
        statement = sa.delete(self._table).where(self._table.c.name == key)
        self._ask(key, lambda c: c.execute(statement), writing=True, single=True)

    def close(self) -> None:
        if self._watchdog is not None:
            self._watchdog.close()
        self._engine.dispose()

    # -- the server ---------------------------------------------------------------------------------------------

    def _parts(self, key: str, data: Buffer) -> Sequence[_Row]:
        """The rows of an object."""
        total = len(data)
        whole = data if isinstance(data, bytes) and total <= limits.SQL_PART else memoryview(data)
        pieces = [bytes(whole[at : at + limits.SQL_PART]) for at in range(0, total or 1, limits.SQL_PART)]
        largest = 2 * len(pieces[0]) + limits.SQL_STATEMENT_REST  # every byte may have to be escaped
        if self._dialect.statement_max and total and largest > self._largest_statement(key):
            raise PermanentError(
                f"{self.url}: {key}: {total} bytes are too large for the server's {self._dialect.statement_setting} "
                f"({self._statement_max} bytes): set it to {limits.SQL_STATEMENT} or more",
                key,
            )
        clock: sa.ColumnElement[float] = sa.literal_column(self._dialect.clock)
        return [
            {"name": key, "part": number, "total": total, "modified": clock, "data": piece}
            for number, piece in enumerate(pieces)
        ]

    def _largest_statement(self, key: str) -> int:
        if self._statement_max is None:
            wanted = sa.text(self._dialect.statement_max)
            self._statement_max = int(self._ask(key, lambda c: c.execute(wanted).scalar_one()))
        return self._statement_max

    def _ask(
        self, key: str, action: Callable[[sa.Connection], T], *, writing: bool = False, single: bool | None = None
    ) -> T:
        """What ``action`` returns, in a transaction of its own; ``single`` (default: when nothing is written): it is
        one statement."""
        try:
            if self._unmade:
                self._make_table()
            alone = not writing if single is None else single
            with (self._single if alone else self._engine).begin() as connection:
                return action(connection)
        except exc.SQLAlchemyError as error:
            kind, text = self._judged(error)
            if kind is NotFoundError:
                if writing:
                    raise PermanentError(
                        f"{self.url} has no table {self._table.name} (`modelfs init` makes it)", key
                    ) from error
                raise NotFoundError(f"{self.url} has no table {self._table.name}", key) from error
            if kind is AlreadyExistsError:
                raise AlreadyExistsError(f"{key} exists in {self.url}", key) from error
            raise kind(f"{self.url}: {key or 'listing'}: {text}", key) from error

    def _judged(self, error: exc.SQLAlchemyError) -> tuple[type[Exception], str]:
        """Which of our errors it is, and what the driver said in one line: never the statement with its values."""
        cause = error.orig if isinstance(error, exc.DBAPIError) else error
        text = " ".join(str(cause).split())[:300] or type(cause).__name__
        if isinstance(error, exc.TimeoutError) or (isinstance(error, exc.DBAPIError) and error.connection_invalidated):
            return TransientError, text
        if not isinstance(error, exc.DBAPIError) or error.orig is None:
            return PermanentError, text
        return self._dialect.judge(error.orig), text

    def _make_table(self) -> None:
        with self._making:
            if not self._unmade:
                return
            try:
                self._check_settings()
                self._table.metadata.create_all(self._engine)
            except exc.DBAPIError as error:
                kind, text = self._judged(error)
                if kind is TransientError:
                    raise
                if kind is PermissionDeniedError or not sa.inspect(self._engine).has_table(self._table.name):
                    raise UsageError(
                        f"{self.url}: cannot make the table {self._table.name}: {text} (docs/backends.md has the "
                        "rights it takes)"
                    ) from error
            self._unmade = False

    def _check_settings(self) -> None:
        """UsageError when the server would refuse the first large object."""
        if not self._dialect.statement_max:
            return
        with self._engine.connect() as connection:
            largest = int(connection.execute(sa.text(self._dialect.statement_max)).scalar_one())
        if largest < limits.SQL_STATEMENT:
            setting = self._dialect.statement_setting
            raise UsageError(
                f"{self.url}: {setting} of the server is {largest}: set it to {limits.SQL_STATEMENT} or more"
            )


def _joined(pieces: Sequence[bytes | None]) -> bytes:
    """One copy at most, and none of an object that is one row."""
    return bytes(pieces[0] or b"") if len(pieces) == 1 else b"".join(piece or b"" for piece in pieces)


def _parsed(url: str) -> tuple[URL, str]:
    """The URL without its query, and the table that it names."""
    try:
        parsed = make_url(url)
    except (exc.ArgumentError, ValueError) as error:
        raise UsageError(f"not the URL of a database: {url.partition('://')[0]}://… (docs/backends.md)") from error
    if parsed.password is not None:
        shown = parsed.set(query={}).render_as_string(hide_password=True)
        raise UsageError(f"{shown}: no password in a URL (docs/backends.md says where it goes)")
    if unknown := sorted(set(parsed.query) - {"table"}):
        raise UsageError(f"unknown option {unknown[0]!r} in the store's URL (table is known)")
    table = parsed.query.get("table", _DEFAULT_TABLE)
    if not isinstance(table, str) or not _TABLE.fullmatch(table):
        raise UsageError(f"the table of a store is named by small letters, digits and _, not {table!r}")
    return parsed.set(drivername=parsed.drivername.lower(), query={}), table
