"""fsspec's own tests of implementations."""

from __future__ import annotations

import itertools
import posixpath
from collections.abc import Callable, Iterator

import pytest
from fsspec.tests import abstract

from modelfs.filesystem.spec import ModelFileSystem
from modelfs.repository.repository import Repository
from modelfs.store.open import open_store

_numbers = itertools.count(1)


class Fixtures(abstract.AbstractFixtures):
    @pytest.fixture(scope="class")
    @classmethod
    def fs(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelFileSystem]:
        url = f"memory://{cls.__name__}"
        store = open_store(url, create=True)
        Repository.create(store)
        store.close()
        fs = ModelFileSystem(store=url, cache_dir=tmp_path_factory.mktemp("suite") / "cache")
        yield fs
        fs.close()

    @pytest.fixture
    def fs_path(self, fs: ModelFileSystem) -> str:
        path = f"test-{next(_numbers)}"
        fs.mkdir(path)
        return path

    @pytest.fixture
    def fs_join(self) -> Callable[..., str]:
        return posixpath.join


class TestCopy(abstract.AbstractCopyTests, Fixtures):
    pass


class TestGet(abstract.AbstractGetTests, Fixtures):
    pass


class TestPut(abstract.AbstractPutTests, Fixtures):
    pass


class TestOpen(abstract.AbstractOpenTests, Fixtures):
    pass


class TestPipe(abstract.AbstractPipeTests, Fixtures):
    pass
