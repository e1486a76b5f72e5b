"""PostgreSQL, MariaDB and nginx for tests: from Debian's packages, without systemd, below a directory of their own.

They refuse to run as root or should not, so then they run as `nobody`, who cannot enter pytest's directories.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import ceph_rgw
import pytest
from servers import wait_for

PASSWORD = "pass-word of the tests"
NOBODY = 65534


@dataclass(frozen=True)
class Database:
    """A database server. ``url`` has the user and the database; the password is in ``environment``."""

    url: str
    environment: Mapping[str, str]
    process: subprocess.Popen[bytes] = field(repr=False)

    def new_store(self) -> str:
        """URL of a store that nobody has made yet."""
        return f"{self.url}?table=t{uuid.uuid4().hex}"


@dataclass(frozen=True)
class WebServer:
    """nginx. ``dav`` is written to, with the password in ~/.netrc; ``http`` shows the same files to be read
    and listed."""

    dav: str
    http: str
    root: Path


@contextlib.contextmanager
def start_postgresql() -> Iterator[Database]:
    """PostgreSQL with a database `models` that belongs to the user `modelfs`."""
    programs = _programs("initdb", "postgres", where="/usr/lib/postgresql/*/bin", package="postgresql")
    with _directory("pg") as directory:
        port = ceph_rgw.free_port()
        (directory / "password").write_text(PASSWORD)
        (directory / "password").chmod(0o644)
        data = directory / "data"
        user = ["-U", "modelfs", "--pwfile", str(directory / "password"), "-A", "scram-sha-256"]
        _unprivileged([programs["initdb"], "-D", str(data), "-N", "-E", "UTF8", "--locale=C.UTF-8", *user])
        settings = [f"-cunix_socket_directories={directory}", "-clisten_addresses=127.0.0.1", "-cfsync=off"]
        command = [programs["postgres"], "-D", str(data), "-p", str(port), *settings]
        with _running(command, directory, port, signal.SIGINT) as process:
            url = f"postgresql://modelfs@127.0.0.1:{port}/postgres"
            yield Database(url, {"PGPASSWORD": PASSWORD}, process)


@contextlib.contextmanager
def start_mariadb() -> Iterator[Database]:
    """MariaDB with a database `models`, in which the user `modelfs` may do everything."""
    programs = _programs("mariadb-install-db", "mariadbd", where="/usr/sbin", package="mariadb-server-core")
    with _directory("my") as directory:
        port = ceph_rgw.free_port()
        data = directory / "data"
        quick = ["--innodb-log-file-size=32M", "--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=32M"]
        install = [programs["mariadb-install-db"], "--no-defaults", f"--datadir={data}", "--skip-test-db", *quick]
        _unprivileged([*install, "--auth-root-authentication-method=normal"])
        first = directory / "first.sql"
        first.write_text(
            "CREATE DATABASE models;\n"
            f"CREATE USER modelfs@'127.0.0.1' IDENTIFIED BY '{PASSWORD}';\n"
            "GRANT ALL ON *.* TO modelfs@'127.0.0.1' WITH GRANT OPTION;\n"
        )
        first.chmod(0o644)
        command = [programs["mariadbd"], "--no-defaults", f"--datadir={data}", f"--socket={directory}/s"]
        command += [f"--port={port}", "--bind-address=127.0.0.1", "--skip-name-resolve", f"--init-file={first}"]
        command += [f"--pid-file={directory}/pid", *quick]
        with _running(command, directory, port, signal.SIGKILL) as process:
            url = f"mariadb://modelfs@127.0.0.1:{port}/models"
            yield Database(url, {"MYSQL_PWD": PASSWORD}, process)


_NGINX = """\
load_module {module};
worker_processes 2;
daemon off;
pid {directory}/pid;
events {{}}
http {{
    access_log off;
    client_max_body_size 100m;
    client_body_temp_path {directory}/bodies;
    proxy_temp_path {directory}/t1;
    fastcgi_temp_path {directory}/t2;
    uwsgi_temp_path {directory}/t3;
    scgi_temp_path {directory}/t4;
    root {directory}/www;
    server {{
        listen 127.0.0.1:{dav};
        auth_basic "models";
        auth_basic_user_file {directory}/users;
        dav_methods PUT DELETE MKCOL COPY MOVE;
        dav_ext_methods PROPFIND OPTIONS;
        dav_access user:rw;
    }}
    server {{
        listen 127.0.0.1:{http};
        dav_ext_methods PROPFIND OPTIONS;
    }}
}}
"""


@contextlib.contextmanager
def start_nginx(home: Path) -> Iterator[WebServer]:
    """nginx with its DAV modules and two workers; the password goes into ``home``/.netrc."""
    programs = _programs("nginx", where="/usr/sbin", package="nginx libnginx-mod-http-dav-ext")
    module = Path("/usr/lib/nginx/modules/ngx_http_dav_ext_module.so")
    if not module.exists():
        pytest.skip("no WebDAV server: libnginx-mod-http-dav-ext not installed (tools/install-deps.sh tests)")
    with _directory("nginx") as directory:
        dav, http = ceph_rgw.free_port(), ceph_rgw.free_port()
        (directory / "www").mkdir()
        _give(directory / "www")
        (directory / "users").write_text(f"modelfs:{{PLAIN}}{PASSWORD}\n")
        (directory / "nginx.conf").write_text(_NGINX.format(directory=directory, module=module, dav=dav, http=http))
        for name in ("users", "nginx.conf"):
            (directory / name).chmod(0o644)
        netrc = home / ".netrc"
        netrc.write_text(f'machine 127.0.0.1 login modelfs password "{PASSWORD}"\n')
        netrc.chmod(0o600)
        command = [programs["nginx"], "-e", "stderr", "-p", str(directory), "-c", str(directory / "nginx.conf")]
        with _running(command, directory, dav, signal.SIGTERM):
            yield WebServer(f"dav://127.0.0.1:{dav}", f"http://127.0.0.1:{http}", directory / "www")


def _programs(*names: str, where: str, package: str) -> dict[str, str]:
    places = os.pathsep.join([os.environ.get("PATH", ""), *map(str, sorted(Path("/").glob(where[1:]), reverse=True))])
    found = {name: shutil.which(name, path=places) for name in names}
    if missing := [name for name, path in found.items() if path is None]:
        pytest.skip(f"{', '.join(missing)} not installed: {package} (tools/install-deps.sh tests)")
    return {name: path for name, path in found.items() if path}


@contextlib.contextmanager
def _directory(name: str) -> Iterator[Path]:
    """A directory for a server, which a short path of a socket fits in; gone afterwards."""
    directory = Path(tempfile.mkdtemp(prefix=f"modelfs-{name}-", dir="/tmp"))
    try:
        _give(directory)
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _give(path: Path) -> None:
    if os.geteuid() == 0:
        os.chown(path, NOBODY, NOBODY)


def _unprivileged(command: list[str]) -> None:
    done = subprocess.run(_as_nobody(command), capture_output=True, text=True, cwd="/", timeout=100, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"


def _as_nobody(command: list[str], end: str = "KILL") -> list[str]:
    """Not as root, and not longer than the tests."""
    who = ["--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups"] if os.geteuid() == 0 else []
    return ["setpriv", "--pdeathsig", end, *who, "--", *command]


@contextlib.contextmanager
def _running(command: list[str], directory: Path, port: int, end: signal.Signals) -> Iterator[subprocess.Popen[bytes]]:
    with (directory / "log").open("w") as log:
        process = subprocess.Popen(
            _as_nobody(command, end.name.removeprefix("SIG")), stdout=log, stderr=log, cwd="/", stdin=subprocess.DEVNULL
        )
    try:
        wait_for(port, process, directory / "log")
        yield process
    finally:
        process.send_signal(end)
        try:
            process.wait(20)
        finally:
            process.kill()
