"""Fixtures of the store tier: every backend, on the server it is meant for."""

from __future__ import annotations

import socket
import uuid
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from modelfs.config import Secret
from modelfs.repository.format import Format
from modelfs.repository.keyslots import encrypted
from modelfs.repository.sealed import SealedStore
from modelfs.store.base import Store
from modelfs.store.fsspecstore import FsspecStore
from modelfs.store.open import open_store

SERVED = ("sqlite", "postgresql", "mariadb", "webdav", "azure", "gcs", "hdfs", "webhdfs")  # a fixture each, NAME_url
EXCLUSIVE = ("local", "memory", "s3", "sftp", "sealed", *SERVED)


@pytest.fixture(params=[*EXCLUSIVE, "fsspec"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """An empty store of each kind. "fsspec": any file system of that library, here the one that lives in memory;
    "sealed": what an encrypted store looks like from above."""
    if request.param == "fsspec":
        name = f"/{uuid.uuid4().hex}"
        store: Store = FsspecStore(f"fs:/{name}", name, lambda: fsspec.filesystem("memory"), "memory")
        yield store
        if fsspec.filesystem("memory").exists(name):
            fsspec.filesystem("memory").rm(name, recursive=True)
        return
    urls = {
        "local": lambda: str(tmp_path / "store"),
        "memory": lambda: f"memory://{uuid.uuid4().hex}",
        "sealed": lambda: f"memory://{uuid.uuid4().hex}",
        "s3": lambda: request.getfixturevalue("s3_bucket") + "/some/prefix",
        "sftp": lambda: request.getfixturevalue("sftp_url"),
    }
    url = request.getfixturevalue(f"{request.param}_url") if request.param in SERVED else urls[request.param]()
    store = open_store(url, create=True)
    if request.param == "sealed":
        made, keys = encrypted(Format(), Secret("key-file", bytes(32)), "first")
        yield SealedStore(store, made.id, keys, lambda: keys)
    else:
        yield store
    store.close()


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A server that takes connections and never says a word."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        yield listener.getsockname()[1]
