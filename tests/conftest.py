"""What every tier shares: a home of its own for the tests, and real servers started once per run.

The servers are the programs that users run: a Ceph cluster with its S3 gateway, OpenSSH, PostgreSQL, MariaDB, nginx,
HDFS; for Azure and Google Cloud Storage there are emulators. Where one is not installed, the tests that need it are
skipped, and the reason stands in pytest's summary.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from mounting import Machine
from servers import (
    AzureServer,
    GcsServer,
    HdfsServer,
    S3Server,
    SftpServer,
    start_azure,
    start_gcs,
    start_hdfs,
    start_s3,
    start_sftp,
)
from sqlservers import Database, WebServer, start_mariadb, start_nginx, start_postgresql

from modelfs.repository import access, keyfiles

# What handles keys forbids core files for good, and every process that is started later inherits that. Whether they are
# forbidden is what `test_private` asks, so it is not done to the process of the tests (modules handle keys already when
# they are collected).
for module in (access, keyfiles):
    module.forbid_core_dumps = lambda: None  # type: ignore[attr-defined]


@pytest.fixture(autouse=True, scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Caches, journals, logs and keys of the tests lie in a directory of their own, not in the user's."""
    home = tmp_path_factory.mktemp("home")
    names = ("XDG_CACHE_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR", "AWS_PROFILE")
    saved = {name: os.environ.get(name) for name in ("HOME", *names)}
    for name in names:
        os.environ.pop(name, None)
    os.environ["HOME"] = str(home)
    yield home
    for name, value in saved.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A Ceph S3 gateway."""
    with start_s3(tmp_path_factory.mktemp("ceph")) as server:
        yield server


@pytest.fixture
def s3_bucket(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """URL of an empty bucket, with the credentials in the environment."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return f"s3://{s3_server.make_bucket()}"


@pytest.fixture(scope="session")
def sftp_server(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SftpServer]:
    """OpenSSH on loopback; its key is known and ours is let in."""
    with start_sftp(home, tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture
def sftp_url(sftp_server: SftpServer, tmp_path: Path) -> str:
    """URL of an empty directory on the SSH server."""
    directory = tmp_path / "on-the-server"
    directory.mkdir()
    return f"{sftp_server.url}{directory}"


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[Database]:
    """PostgreSQL on loopback."""
    with start_postgresql() as server:
        yield server


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[Database]:
    """MariaDB on loopback."""
    with start_mariadb() as server:
        yield server


@pytest.fixture
def postgresql_url(postgresql_server: Database, monkeypatch: pytest.MonkeyPatch) -> str:
    """URL of a table that is not there yet, with the password in the environment."""
    return _database_url(postgresql_server, monkeypatch)


@pytest.fixture
def mariadb_url(mariadb_server: Database, monkeypatch: pytest.MonkeyPatch) -> str:
    """URL of a table that is not there yet, with the password in the environment."""
    return _database_url(mariadb_server, monkeypatch)


def _database_url(server: Database, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return server.new_store()


@pytest.fixture(scope="session")
def web_server(home: Path) -> Iterator[WebServer]:
    """nginx on loopback: WebDAV with a password, and the same files over HTTP."""
    with start_nginx(home) as server:
        yield server


@pytest.fixture
def webdav_url(web_server: WebServer) -> str:
    """URL of a collection that is not there yet."""
    return f"{web_server.dav}/{uuid.uuid4().hex}"


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """URL of a file that is not there yet."""
    return f"sqlite:///{tmp_path / 'store.db'}"


@pytest.fixture(scope="session")
def azure_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AzureServer]:
    """An emulator of Azure Blob Storage."""
    with start_azure(tmp_path_factory.mktemp("azure")) as server:
        yield server


@pytest.fixture
def azure_url(azure_server: AzureServer, monkeypatch: pytest.MonkeyPatch) -> str:
    """URL of a prefix in an empty container, with the credentials in the environment."""
    for name, value in azure_server.environment.items():
        monkeypatch.setenv(name, value)
    return f"az://{azure_server.make_container()}/some/prefix?endpoint={azure_server.endpoint}"


@pytest.fixture(scope="session")
def gcs_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GcsServer]:
    """An emulator of Google Cloud Storage."""
    with start_gcs(tmp_path_factory.mktemp("gcs")) as server:
        yield server


@pytest.fixture
def gcs_url(gcs_server: GcsServer, monkeypatch: pytest.MonkeyPatch) -> str:
    """URL of a prefix in an empty bucket, with the account in the environment."""
    for name, value in gcs_server.environment.items():
        monkeypatch.setenv(name, value)
    return f"gs://{gcs_server.make_bucket()}/some/prefix?endpoint={gcs_server.endpoint}"


@pytest.fixture(scope="session")
def hdfs_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HdfsServer]:
    """A NameNode and a DataNode."""
    with start_hdfs(tmp_path_factory.mktemp("hdfs")) as server:
        yield server


@pytest.fixture
def hdfs_url(hdfs_server: HdfsServer) -> str:
    """URL of a directory that is not there yet."""
    return f"{hdfs_server.hdfs}/{uuid.uuid4().hex}"


@pytest.fixture
def webhdfs_url(hdfs_server: HdfsServer) -> str:
    """The same over HTTP."""
    return f"{hdfs_server.webhdfs}/{uuid.uuid4().hex}"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """A machine with its own state and cache directories."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg-cache"))
    made = Machine(tmp_path / "machine")
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def store(machine: Machine) -> str:
    """A fresh local store."""
    return machine.new_store()


@pytest.fixture
def mnt(machine: Machine, store: str) -> Path:
    """A read-write mount of a fresh store."""
    return machine.mount(store)
