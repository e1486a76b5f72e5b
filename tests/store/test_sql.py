"""Databases as stores, beyond what every backend promises: URLs, rights, rows, lost connections, Oracle."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import oracle
from sqlalchemy.schema import CreateTable
from sqlservers import PASSWORD, Database

from modelfs import limits
from modelfs.doctor.remote import check_store
from modelfs.errors import (
    AlreadyExistsError,
    ExtraMissingError,
    NotFoundError,
    PermanentError,
    PermissionDeniedError,
    TransientError,
    UnreachableError,
    UsageError,
)
from modelfs.store import open as open_module
from modelfs.store.open import open_store, redact_url
from modelfs.store.retry import RetryStore
from modelfs.store.sql import SqlStore, object_table
from modelfs.store.sqldialects import DIALECTS

KINDS = ("sqlite", "postgresql", "mariadb")
SERVERS = ("postgresql", "mariadb")


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest) -> str:
    """A table that is not there yet, of each kind."""
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
def store(url: str) -> Iterator[RetryStore]:
    store = open_store(url, create=True)
    yield store
    store.close()


def _administrator(server: Database) -> sa.Engine:
    driver = server.url.replace("postgresql://", "postgresql+psycopg://").replace("mariadb://", "mariadb+pymysql://")
    return sa.create_engine(sa.make_url(driver).set(password=PASSWORD), isolation_level="AUTOCOMMIT")


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Database:
    found: Database = request.getfixturevalue(f"{request.param}_server")
    for name, value in found.environment.items():
        monkeypatch.setenv(name, value)
    return found


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me@127.0.0.1:1",
        "postgresql://me@127.0.0.1:port/x",
        "mysql://",
        "sqlite://",
        "sqlite:///:memory:",
        "SQLite:///relative/file",
        "sqlite:////no/such/directory/file",
        "postgresql://127.0.0.1:1/x?sslkey=secret",
        "mariadb://127.0.0.1:1/x?table=Robert'); DROP TABLE",
    ],
)
def test_nonsense_is_one_clear_line(url: str) -> None:
    with pytest.raises(UsageError) as failure:
        open_store(url, create=True)
    assert "\n" not in str(failure.value)
    assert "=secret" not in str(failure.value)


def test_a_password_in_the_url_is_refused_and_not_repeated() -> None:
    for url in ("postgresql://me:hunter2@127.0.0.1/x", "mysql://me:hunter2@127.0.0.1/x", "oracle://me:hunter2@h/x"):
        with pytest.raises(UsageError, match="no password in a URL") as failure:
            open_store(url)
        assert "hunter2" not in str(failure.value)


def test_the_table_stays_in_what_people_see() -> None:
    assert redact_url("postgresql://me:secret@host/db?table=team&x=secret") == "postgresql://me@host/db?table=team"
    assert redact_url("sqlite:////srv/models.db") == "sqlite:////srv/models.db"


def test_a_missing_driver_names_the_extra(postgresql_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "psycopg", None)
    with pytest.raises(ExtraMissingError, match=r"modelfs\[sql\]"):
        open_store(postgresql_url)


def test_a_database_without_the_table_is_no_store(url: str, tmp_path: Path) -> None:
    if url.startswith("sqlite"):
        with pytest.raises(UsageError, match="no such file"):
            open_store(url)
        (tmp_path / "store.db").touch()
    store = open_store(url)
    with pytest.raises(NotFoundError):
        store.get("format.json")
    assert store.size("a") is None
    assert list(store.list("")) == []
    with pytest.raises(PermanentError, match="modelfs init"):
        store.put("a", b"")
    store.close()


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(os.urandom(10_000))
    with pytest.raises(PermanentError, match="not a database"):
        open_store(f"sqlite:///{tmp_path / 'f'}").get("a")


def test_several_rows(store: RetryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """An object that grows and shrinks over the size of a row, and ranges at every border."""
    monkeypatch.setattr(limits, "SQL_PART", 10)
    for size in (35, 10, 11, 0, 40, 5):
        data = os.urandom(size)
        store.put("a/b", data)
        assert store.get("a/b") == data
        assert [found.size for found in store.list("a/")] == [size]
        for start in (0, 3, 9, 10, 11, 19, 20, 33, 50):
            for length in (1, 7, 10, 11, 25, 60):
                assert store.get_range("a/b", start, length) == data[start : start + length]
    store.put_if_absent("c", b"x" * 25)
    with pytest.raises(AlreadyExistsError):
        store.put_if_absent("c", b"y" * 35)
    assert store.get("c") == b"x" * 25
    store.delete("c")
    with pytest.raises(NotFoundError):
        store.get_range("c", 15, 5)


def test_names_are_bytes(store: RetryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Capitals, and what LIKE and collations would make of names."""
    monkeypatch.setattr(limits, "SQL_PAGE", 2)
    keys = ["A_b/x", "a_b/X", "a_b/x", "aXb/x", "a-b/x", "a_b/x.y", "a_b0", "a_b", "Z", "a", "a_b/-", "a_b/1/2"]
    for key in keys:
        store.put_if_absent(key, key.encode())
    assert [found.key for found in store.list("a_b/")] == sorted(key for key in keys if key.startswith("a_b/"))
    assert [found.key for found in store.list("")] == sorted(keys)
    assert all(store.get(key) == key.encode() for key in keys)


def test_a_wrong_password(server: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in server.environment:
        monkeypatch.setenv(name, "hunter2")
    with pytest.raises(UnreachableError, match="refuses these credentials") as failure:
        open_store(server.new_store())
    assert "hunter2" not in str(failure.value)


def test_a_database_that_is_not_there(server: Database) -> None:
    with pytest.raises(UnreachableError):
        open_store(server.url + "-not", create=True)


def test_a_table_that_may_not_be_made_read_or_written(server: Database) -> None:
    url = server.new_store()
    table = url.partition("table=")[2]
    reader = url.replace("modelfs@", "reader@")
    at = "@'127.0.0.1'" if "mariadb" in url else ""
    password = "IDENTIFIED BY" if at else "LOGIN PASSWORD"
    database = sa.make_url(server.url).database
    engine = _administrator(server)
    with engine.connect() as administrator:
        administrator.exec_driver_sql(f"CREATE USER reader{at} {password} '{PASSWORD}'")
        if at:
            administrator.exec_driver_sql(f"GRANT SELECT ON {database}.* TO reader{at}")
        try:
            with pytest.raises(UsageError, match=f"cannot make the table {table}.*denied.*docs/backends.md"):
                open_store(reader, create=True)
            open_store(url, create=True).put("a", b"1")
            if not at:
                with pytest.raises(UnreachableError, match="refuses"):
                    open_store(reader)
                administrator.exec_driver_sql(f"GRANT SELECT ON {table} TO reader")
            store = open_store(reader, create=True)
            assert store.get("a") == b"1"
            with pytest.raises(PermissionDeniedError):
                store.put("a", b"2")
            store.close()
        finally:
            if not at:
                administrator.exec_driver_sql("DROP OWNED BY reader")
            administrator.exec_driver_sql(f"DROP USER reader{at}")
    engine.dispose()


def test_connections_that_the_server_ended(server: Database) -> None:
    store = open_store(server.new_store(), create=True)
    store.put("a", b"1")
    engine = _administrator(server)
    with engine.connect() as administrator:
        if "mariadb" in server.url:
            others = "SELECT id FROM information_schema.processlist WHERE id != connection_id() AND user = 'modelfs'"
            for number in administrator.exec_driver_sql(others).scalars().all():
                with contextlib.suppress(sa.exc.OperationalError):  # one of an earlier test ended by itself meanwhile
                    administrator.exec_driver_sql(f"KILL {number}")
        else:
            administrator.exec_driver_sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE pid != pg_backend_pid() AND application_name = 'modelfs'"
            )
    engine.dispose()
    assert store.get("a") == b"1"
    assert store.statistics().retries >= 1
    store.close()


@pytest.mark.parametrize("kind", SERVERS)
def test_a_server_that_accepts_and_is_silent(kind: str, silent_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_module.limits, "STORE_OPEN_TIMEOUT", 1.0)
    with pytest.raises(UnreachableError, match=f"{kind}://"):
        open_store(f"{kind}://me@127.0.0.1:{silent_port}/x")


def test_a_server_that_falls_silent(postgresql_url: str) -> None:
    """libpq would wait for ever; the watchdog ends the connection. The next one finds another process there."""
    store = SqlStore(postgresql_url, timeout=1.0, create=True)
    store.put("a", b"1")
    with store._engine.connect() as connection:
        process = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
    os.kill(process, signal.SIGSTOP)
    try:
        with pytest.raises(TransientError):
            store.get("a")
        assert store.get("a") == b"1"
    finally:
        os.kill(process, signal.SIGCONT)
    assert store._watchdog is not None
    assert store._watchdog._lent == {}
    store.close()


def test_statements_that_are_too_large_for_the_server(mariadb_server: Database, mariadb_url: str) -> None:
    engine = _administrator(mariadb_server)
    with engine.connect() as administrator:
        try:
            open_store(mariadb_url, create=True).close()
            administrator.exec_driver_sql(f"SET GLOBAL max_allowed_packet = {1 << 20}")
            store = open_store(mariadb_url)
            store.put("small", b"1")
            with pytest.raises(PermanentError, match=r"max_allowed_packet \(1048576 bytes\): set it to 16777216"):
                store.put("large", bytes(4 << 20))
            store.close()
            with pytest.raises(UsageError, match="max_allowed_packet of the server is 1048576"):
                open_store(mariadb_server.new_store(), create=True)
        finally:
            administrator.exec_driver_sql(f"SET GLOBAL max_allowed_packet = {16 << 20}")
    engine.dispose()


def test_the_worst_bytes_fit_the_default_of_the_server(mariadb_url: str) -> None:
    """Each of them is escaped."""
    store = open_store(mariadb_url, create=True)
    data = b"'\\\0\n" * (limits.CHUNK_MAX // 4)
    store.put("a", data)
    assert store.get("a") == data
    store.close()


def test_columns(server: Database) -> None:
    """Chunks are compressed already: the server does not try, and cuts ranges out without reading the rest."""
    url = server.new_store()
    open_store(url, create=True).close()
    table = url.partition("table=")[2]
    engine = _administrator(server)
    with engine.connect() as administrator:
        if "mariadb" in url:
            wanted = (
                f"SELECT data_type FROM information_schema.columns WHERE table_name = '{table}' ORDER BY column_name"
            )
            assert administrator.exec_driver_sql(wanted).scalars().all()[0] == "longblob"
        else:
            wanted = f"SELECT attstorage FROM pg_attribute WHERE attrelid = '{table}'::regclass AND attname = 'data'"
            assert administrator.exec_driver_sql(wanted).scalar_one() in ("e", b"e")
    engine.dispose()


def test_the_doctor_looks_at_it(url: str) -> None:
    open_store(url, create=True).close()
    said = {finding.check: finding.level for finding in check_store(url, read_only=False)}
    assert {"latency", "throughput", "put-if-absent", "clock"} <= said.keys()
    assert (said["store"], said["put-if-absent"], said["clock"]) == ("warn", "ok", "ok")  # nothing in it yet


def test_failures_show_no_data(store: RetryStore) -> None:
    store.put("a", b"1")
    with pytest.raises(AlreadyExistsError) as failure:
        store.put_if_absent("a", b"hunter2" * 10)
    assert "hunter2" not in f"{failure.value}{failure.value.__cause__}"


def test_oracle_s_statements() -> None:
    """There is no server: what it would be asked, and how its answers would be understood."""
    import oracledb

    dialect, table = DIALECTS["oracle"], object_table("modelfs")
    made = str(CreateTable(table).compile(dialect=oracle.dialect()))
    for column in ("name VARCHAR2(512 CHAR) NOT NULL", "data BLOB", "PRIMARY KEY (name, part)"):
        assert column in " ".join(made.split())
    values = {"name": "a", "part": 0, "total": 1, "modified": sa.literal_column(dialect.clock), "data": b"x"}
    removed, inserted = (str(s.compile(dialect=oracle.dialect())) for s in dialect.upsert(table, values))  # type: ignore[attr-defined]
    assert removed == "DELETE FROM modelfs WHERE modelfs.name = :name_1 AND modelfs.part = :part_1"
    assert "VALUES (:name, :part, :total, (CAST(sys_extract_utc(systimestamp)" in inserted
    page = sa.select(table.c.name).where(table.c.name > "a").order_by(table.c.name).limit(5)
    assert "FETCH FIRST" in str(page.compile(dialect=oracle.dialect(), compile_kwargs={"literal_binds": True}))
    url = dialect.driver_url(sa.make_url("oracle://me@host:1521/FREEPDB1"))
    assert url.render_as_string() == "oracle+oracledb://me@host:1521?service_name=FREEPDB1"
    for number, kind in ((1, AlreadyExistsError), (942, NotFoundError), (1017, PermissionDeniedError)):
        error = oracledb.DatabaseError(type("Answer", (), {"full_code": f"ORA-{number:05}"})())
        assert dialect.judge(error) is kind
    with pytest.raises(UnreachableError, match="oracle://me@127"):
        open_store("oracle://me@127.0.0.1:1/x")
