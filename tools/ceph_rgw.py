#!/usr/bin/env python3
"""A one-node Ceph cluster in a directory, with an S3 gateway on loopback, for tests and benchmarks.

    ceph_rgw.py start DIR [--port 7480] [--bytes 4000000000] [--on-disk]
    ceph_rgw.py stop DIR

`start` prints the endpoint; the keys are testkey / testsecret. Objects live in memory, or with --on-disk in a file
below DIR and take little memory; either way they are gone after `stop`. Needs the Debian packages ceph-mon ceph-mgr
ceph-osd radosgw ceph-common (tools/install-deps.sh tests). Everything it starts writes its process id into DIR.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path

import daemons

PROGRAMS = ("ceph-mon", "ceph-mgr", "ceph-osd", "radosgw", "radosgw-admin", "monmaptool", "ceph")
ACCESS_KEY, SECRET_KEY = "testkey", "testsecret"
DAEMONS = ("rgw", "osd", "mgr", "mon")

CONFIG = """\
[global]
fsid = {fsid}
mon host = 127.0.0.1:{mon_port}
public addr = 127.0.0.1
auth cluster required = none
auth service required = none
auth client required = none
ms mon client mode = crc
ms mon service mode = crc
ms mon cluster mode = crc
paxos propose interval = 0.05
osd pool default size = 1
osd pool default min size = 1
mon allow pool size one = true
osd pool default pg num = 1
osd crush chooseleaf type = 0
mon warn on pool no redundancy = false
run dir = {directory}
admin socket = {sockets}/$name.asok
log file = {directory}/$name.log
osd objectstore = {objectstore}
memstore device bytes = {size}
bluestore block size = {size}
osd memory target = 1500000000
mon data = {directory}/mon
osd data = {directory}/osd
mgr data = {directory}/mgr
rgw data = {directory}/rgw
rgw frontends = beast endpoint=127.0.0.1:{port} tcp_nodelay=1
rgw dns name = localhost
"""


def missing_programs() -> list[str]:
    """What has to be installed before `start` can work."""
    return [name for name in PROGRAMS if shutil.which(name) is None]


def free_port() -> int:
    """A TCP port on loopback that nobody uses at this moment: none of those that Linux gives to outgoing connections
    (32768 and above), of which one could have it before the server does."""
    while True:
        port = random.SystemRandom().randrange(20_000, 32_768)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def start(directory: Path, port: int, size: int, *, on_disk: bool = False) -> str:
    """Start the cluster and return the endpoint. RuntimeError with the reason when it does not come up."""
    if missing := missing_programs():
        raise RuntimeError(f"not installed: {', '.join(missing)}")
    for name in ("mon", "osd", "mgr", "rgw"):
        (directory / name).mkdir(parents=True, exist_ok=True)
    # Paths of UNIX sockets are limited to 107 bytes, and test directories are longer than that.
    sockets = Path(f"/tmp/ceph-{uuid.uuid4().hex[:8]}")
    sockets.mkdir(mode=0o700)
    (directory / "sockets").write_text(str(sockets))
    mon_port, fsid = free_port(), str(uuid.uuid4())
    config = directory / "ceph.conf"
    config.write_text(
        CONFIG.format(
            fsid=fsid,
            mon_port=mon_port,
            directory=directory,
            sockets=sockets,
            size=size,
            port=port,
            objectstore="bluestore" if on_disk else "memstore",
        )
    )
    given = ["-c", str(config)]
    monmap = str(directory / "monmap")
    _run("monmaptool", "--create", "--addv", "a", f"[v2:127.0.0.1:{mon_port}]", "--fsid", fsid, monmap, "--clobber")
    _run("ceph-mon", *given, "--mkfs", "-i", "a", "--monmap", monmap)
    _run("ceph-mon", *given, "-i", "a", "--pid-file", str(directory / "mon.pid"))
    _run("ceph-mgr", *given, "-i", "x", "--pid-file", str(directory / "mgr.pid"))
    number = _run("ceph", *given, "osd", "create").strip()
    _run("ceph-osd", *given, "-i", number, "--mkfs")
    _run("ceph", *given, "osd", "crush", "add", f"osd.{number}", "1.0", "host=localhost", "root=default")
    _run("ceph-osd", *given, "-i", number, "--pid-file", str(directory / "osd.pid"))
    _run("radosgw", *given, "-n", "client.rgw", "--pid-file", str(directory / "rgw.pid"))
    endpoint = f"http://127.0.0.1:{port}"
    _wait_for(endpoint, directory)
    keys = ["--access-key", ACCESS_KEY, "--secret-key", SECRET_KEY]
    _run("radosgw-admin", *given, "user", "create", "--uid=test", "--display-name=test", *keys)
    return endpoint


def make_bucket(endpoint: str, name: str) -> None:
    """Make a bucket. Needs boto3, which starting and stopping do without."""
    import boto3

    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        region_name="us-east-1",
    )
    client.create_bucket(Bucket=name)
    client.close()


def stop(directory: Path) -> None:
    """Stop what `start` started; nothing happens where nothing runs."""
    for name in DAEMONS:
        # Nothing is lost with what lives in memory, and an orderly end takes ten seconds.
        daemons.kill(directory / f"{name}.pid")
    if (directory / "sockets").exists():
        shutil.rmtree((directory / "sockets").read_text(), ignore_errors=True)


def _wait_for(endpoint: str, directory: Path) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(endpoint, timeout=2).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise RuntimeError(f"the gateway did not come up within 90 s; its log is {directory}/client.rgw.log")


def _run(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    except subprocess.CalledProcessError as error:
        raise RuntimeError(f"{command[0]}: {error.stderr.strip()[-500:]}") from error
    return done.stdout


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=7480)
    parser.add_argument("--bytes", type=int, default=4_000_000_000)
    parser.add_argument("--on-disk", action="store_true")

    def started(directory: Path, given: argparse.Namespace) -> str:
        return f"{start(directory, given.port, given.bytes, on_disk=given.on_disk)}  {ACCESS_KEY} {SECRET_KEY}"

    return daemons.command_line(parser, started, stop)


if __name__ == "__main__":
    sys.exit(main())
