#!/usr/bin/env python3
"""Microsoft's emulator of Azure Blob Storage on loopback, for tests.

    azurite.py start DIR [--port 10000]
    azurite.py stop DIR

`start` prints the endpoint. Objects live in memory. The emulator is a package of npm (azurite, fetched once into
~/.cache/modelfs-tests) and needs Node.js. Everything it starts writes its process id into DIR.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import fcntl
import hashlib
import hmac
import os
import pwd
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from email.utils import formatdate
from pathlib import Path

import daemons

PACKAGE = "azurite@3.37.0"
# Of the user, not of $HOME, which tests have moved.
CACHE = Path(pwd.getpwuid(os.getuid()).pw_dir) / ".cache" / "modelfs-tests" / PACKAGE
# The well-known account of all emulators.
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
_VERSION = "2021-08-06"


def missing_programs() -> list[str]:
    """What has to be installed before `start` can work."""
    return [name for name in ("node", "npm") if shutil.which(name) is None]


def fetch() -> Path:
    """The emulator's program, downloaded when it is not here. RuntimeError with the reason."""
    CACHE.mkdir(parents=True, exist_ok=True)
    program = CACHE / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (CACHE / "complete").exists():
            command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(CACHE), PACKAGE]
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
            if done.returncode:
                raise RuntimeError(f"{PACKAGE} cannot be downloaded: {' '.join(done.stderr.split())[-300:]}")
            (CACHE / "complete").touch()
    return program


def start(directory: Path, port: int) -> str:
    """Start the emulator and return the endpoint of its account. RuntimeError when it does not come up."""
    if missing := missing_programs():
        raise RuntimeError(f"not installed: {', '.join(missing)}")
    command = ["node", str(fetch()), "--blobHost", "127.0.0.1", "--blobPort", str(port), "--inMemoryPersistence"]
    command += ["--silent", "--skipApiVersionCheck", "--disableTelemetry"]
    with (directory / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=directory, start_new_session=True)
    (directory / "pid").write_text(str(process.pid))
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return f"http://127.0.0.1:{port}/{ACCOUNT}"
        time.sleep(0.05)
    raise RuntimeError(f"azurite does not listen; its log is {directory}/log")


def make_container(endpoint: str, name: str) -> None:
    """Make a container, which obstore cannot: one request, signed with the account's key."""
    headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": _VERSION}
    signed = "PUT" + "\n" * 12 + "".join(f"{key}:{value}\n" for key, value in headers.items())
    signed += f"/{ACCOUNT}/{ACCOUNT}/{name}\nrestype:container"
    digest = base64.b64encode(hmac.digest(base64.b64decode(KEY), signed.encode(), hashlib.sha256)).decode()
    headers["Authorization"] = f"SharedKey {ACCOUNT}:{digest}"
    request = urllib.request.Request(f"{endpoint}/{name}?restype=container", method="PUT", headers=headers)
    urllib.request.urlopen(request, timeout=10).close()


def stop(directory: Path) -> None:
    """Stop what `start` started; nothing happens where nothing runs."""
    daemons.kill(directory / "pid")


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=10000)
    return daemons.command_line(
        parser, lambda directory, given: f"{start(directory, given.port)}  {ACCOUNT} {KEY}", stop
    )


if __name__ == "__main__":
    sys.exit(main())
