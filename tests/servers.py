"""Real servers for tests, started on free ports of loopback and stopped whatever happens."""

from __future__ import annotations

import contextlib
import getpass
import json
import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import azurite
import ceph_rgw
import gcs
import hdfs
import pytest


@dataclass(frozen=True)
class S3Server:
    """An S3 endpoint and what the environment must hold to use it."""

    endpoint: str
    environment: dict[str, str]

    def make_bucket(self, name: str | None = None) -> str:
        """Make a bucket, and return its name; None: one of its own."""
        name = name or f"test-{uuid.uuid4().hex}"
        ceph_rgw.make_bucket(self.endpoint, name)
        return name


@dataclass(frozen=True)
class SftpServer:
    """``url`` is sftp://user@127.0.0.1:port, to which an absolute path is added."""

    url: str
    port: int


@dataclass(frozen=True)
class HdfsServer:
    """URLs of one name space, to which an absolute path is added."""

    hdfs: str
    webhdfs: str


@dataclass(frozen=True)
class AzureServer:
    """A blob endpoint and what the environment must hold to use it."""

    endpoint: str
    environment: dict[str, str]

    def make_container(self) -> str:
        """Name of a new container."""
        name = f"test-{uuid.uuid4().hex}"
        azurite.make_container(self.endpoint, name)
        return name


@dataclass(frozen=True)
class GcsServer:
    """An endpoint and what the environment must hold to use it."""

    endpoint: str
    environment: dict[str, str]

    def make_bucket(self) -> str:
        """Name of a new bucket."""
        name = f"test-{uuid.uuid4().hex}"
        gcs.make_bucket(self.endpoint, name)
        return name


@contextlib.contextmanager
def start_s3(directory: Path) -> Iterator[S3Server]:
    """Ceph with its S3 gateway."""
    if missing := ceph_rgw.missing_programs():
        pytest.skip(f"no S3 server: {', '.join(missing)} not installed (tools/install-deps.sh tests)")
    try:
        endpoint = ceph_rgw.start(directory, ceph_rgw.free_port(), 4_000_000_000)
        environment = {
            "AWS_ACCESS_KEY_ID": ceph_rgw.ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": ceph_rgw.SECRET_KEY,
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_REGION": "us-east-1",
        }
        yield S3Server(endpoint, environment)
    finally:
        ceph_rgw.stop(directory)


@contextlib.contextmanager
def start_sftp(home: Path, directory: Path) -> Iterator[SftpServer]:
    """OpenSSH, with keys in ``home``/.ssh as ssh(1) would find them."""
    sshd = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")
    keygen = shutil.which("ssh-keygen")
    if sshd is None or keygen is None:
        pytest.skip("no SFTP server: sshd or ssh-keygen not installed (tools/install-deps.sh tests)")
    ssh = home / ".ssh"
    ssh.mkdir(mode=0o700)
    for path in (directory / "host_key", ssh / "id_ed25519"):
        subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    (directory / "authorized_keys").write_text((ssh / "id_ed25519.pub").read_text())
    port = ceph_rgw.free_port()
    (ssh / "known_hosts").write_text(f"[127.0.0.1]:{port} {(directory / 'host_key.pub').read_text()}")
    # paramiko asks the password database for the home directory when it looks for known hosts, so they are named.
    (ssh / "config").write_text(
        f"Host 127.0.0.1\n  UserKnownHostsFile {ssh / 'known_hosts'}\n  IdentityFile {ssh / 'id_ed25519'}\n"
    )
    config = directory / "sshd_config"
    config.write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {directory / 'host_key'}\nPidFile none\nUsePAM no\n"
        f"AuthorizedKeysFile {directory / 'authorized_keys'}\nStrictModes no\nPermitRootLogin yes\n"
        "PasswordAuthentication no\nKbdInteractiveAuthentication no\nSubsystem sftp internal-sftp\n"
    )
    if getpass.getuser() == "root":
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd insists on it
    with (directory / "log").open("w") as log:
        process = subprocess.Popen([sshd, "-D", "-e", "-f", config], stderr=log)
    try:
        wait_for(port, process, directory / "log")
        yield SftpServer(f"sftp://{getpass.getuser()}@127.0.0.1:{port}", port)
    finally:
        process.terminate()
        process.wait(10)


def _fetched(what: str, missing: Sequence[str], fetch: Callable[[], object]) -> None:
    """Have what is downloaded once; skips the test where a program is missing or it cannot be had."""
    if missing:
        pytest.skip(f"no {what}: {', '.join(missing)} not installed (tools/install-deps.sh tests)")
    try:
        fetch()
    except (RuntimeError, OSError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"no {what}: {error}")


@contextlib.contextmanager
def start_azure(directory: Path) -> Iterator[AzureServer]:
    """Microsoft's emulator."""
    _fetched("Azure emulator", azurite.missing_programs(), azurite.fetch)
    try:
        endpoint = azurite.start(directory, ceph_rgw.free_port())
        account = {"AZURE_STORAGE_ACCOUNT_NAME": azurite.ACCOUNT, "AZURE_STORAGE_ACCOUNT_KEY": azurite.KEY}
        yield AzureServer(endpoint, account)
    finally:
        azurite.stop(directory)


@contextlib.contextmanager
def start_gcs(directory: Path) -> Iterator[GcsServer]:
    """fake-gcs-server, and an account that needs no token: without one obstore asks a cloud's metadata service."""
    _fetched("emulator of GCS", (), gcs.fetch)
    try:
        endpoint = gcs.start(directory, ceph_rgw.free_port(), ceph_rgw.free_port())
        account = {"disable_oauth": True, "client_email": "", "private_key": "", "private_key_id": ""}
        yield GcsServer(endpoint, {"GOOGLE_SERVICE_ACCOUNT_KEY": json.dumps(account)})
    finally:
        gcs.stop(directory)


@contextlib.contextmanager
def start_hdfs(directory: Path) -> Iterator[HdfsServer]:
    """A NameNode and a DataNode."""
    _fetched("HDFS", hdfs.missing_programs(), hdfs.fetch)
    try:
        yield HdfsServer(*hdfs.start(directory, ceph_rgw.free_port(), ceph_rgw.free_port()))
    finally:
        hdfs.stop(directory)


def wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    """Until a server listens. RuntimeError with its log when it does not."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args} ended: {log.read_text()}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.02)
    raise RuntimeError(f"{process.args} does not listen: {log.read_text()}")
