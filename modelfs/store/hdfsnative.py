"""HDFS by its own protocol, through hdfs-native: Rust, no JVM.

Name services with several NameNodes, and Kerberos, are configured where Hadoop's own tools look (``HADOOP_CONF_DIR``,
the ticket cache). The library bounds no request to a NameNode, so all of them run on an event loop in a thread of
their own, where they can be given up; after that the connection is not used again. Outside of a loop of Rust's the
library panics when it wants to sleep before it turns to another NameNode, so that is done here.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import re
import threading
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, Final, TypeVar

from modelfs.errors import ExtraMissingError, TransientError
from modelfs.store.base import Buffer
from modelfs.store.hdfs import Entry, JavaError

try:
    from hdfs_native import AsyncClient, WriteOptions
except ImportError as missing:
    raise ExtraMissingError("hdfs:// needs hdfs-native: pip install 'modelfs[hdfs]'") from missing

T = TypeVar("T")

_DEFAULT_PORT: Final = 8020
# A NameNode that has not heard of the last block yet, because the DataNode told us first, does not let the file be
# closed, and hdfs-native asks again after 500 ms. So every step of closing begins a little later.
_CLOSE_PAUSE: Final = 0.004
_NAMENODES_ASKED: Final = 8  # drawn from those of a name service until one answers that it is the active one
# What is no exception of Java's, as the library's Rust shows it: Kind("text").
_SHOWN: Final = re.compile(r'(\w+)(?:\((?:"([\w.$]+)", )?"(.*)"\)?)?', re.DOTALL)
_REFUSED: Final = ("SASLError", "GSSAPIError", "NoSASLMechanism")
_LASTING: Final = ("InvalidPath", "InvalidArgument", "UrlParseError", "XmlParseError", "ErasureCodingError")


class _ElsewhereError(OSError):
    """This NameNode did nothing: it is not there, or not the active one."""


class NativeClient:
    """``host`` without ``port`` may be the name of a name service. ``timeout``: seconds for one request."""

    def __init__(self, host: str, port: int | None, timeout: float) -> None:
        self._timeout = timeout
        self._host, self._port = host, port
        self._several = False
        self._client = self._connect()
        self._closed = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="hdfs", daemon=True)
        self._thread.start()

    def read(self, path: str, start: int, length: int | None) -> bytes:
        async def read(client: AsyncClient) -> bytes:
            reader = await client.read(path)
            there = max(len(reader) - start, 0)  # the library panics beyond the end
            wanted = there if length is None else min(length, there)
            return bytes(await reader.read_range(start, wanted)) if wanted else b""

        return self._run(read)

    def length(self, path: str) -> int:
        found = self._run(lambda client: client.get_file_info(path))
        if found.isdir:
            raise FileNotFoundError(f"{path} is a directory")
        return found.length

    def entries(self, path: str) -> list[Entry]:
        async def entries(client: AsyncClient) -> list[Entry]:
            return [
                Entry(found.path, found.isdir, found.length, found.modification_time / 1000)
                async for found in client.list_status(path)
            ]

        return self._run(entries)

    def make_directory(self, path: str) -> None:
        self._run(lambda client: client.mkdirs(path, create_parent=True))

    def write(self, path: str, data: Buffer) -> None:
        async def write(client: AsyncClient) -> None:
            writer = await client.create(path, WriteOptions(create_parent=True, overwrite=True))
            if len(data):
                await writer.write(bytes(data))
            await _paced(writer.close(), _CLOSE_PAUSE)

        self._run(write)

    def rename(self, source: str, target: str, *, replace: bool) -> None:
        self._run(lambda client: client.rename(source, target, replace))

    def delete(self, path: str) -> None:
        self._run(lambda client: client.delete(path))

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            asyncio.run_coroutine_threadsafe(self._end(), self._loop)
            self._thread.join(5)
            if not self._thread.is_alive():
                self._loop.close()

    async def _end(self) -> None:
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        # After the cancelled ones have had their turn.
        self._loop.call_later(0.01, self._loop.stop)

    def _connect(self) -> AsyncClient:
        settings = {
            "dfs.client.socket-timeout": str(int(self._timeout * 1000)),
            "dfs.client.failover.max.attempts": "0",
            f"dfs.client.failover.random.order.{self._host}": "true",
        }
        if self._port is None:
            try:
                client = AsyncClient(f"hdfs://{self._host}", settings)
            except RuntimeError as error:
                if "No NameNode hosts found" not in str(error):
                    raise
            else:
                self._several = True
                return client
        return AsyncClient(f"hdfs://{self._host}:{self._port or _DEFAULT_PORT}", settings)

    def _run(self, ask: Callable[[AsyncClient], Awaitable[T]]) -> T:
        for _ in range(_NAMENODES_ASKED if self._several else 0):
            with contextlib.suppress(_ElsewhereError):
                return self._run_once(ask)
            self._client = self._connect()
        return self._run_once(ask)

    def _run_once(self, ask: Callable[[AsyncClient], Awaitable[T]]) -> T:
        client = self._client

        async def bounded() -> T:
            async with asyncio.timeout(self._timeout):
                return await ask(client)

        if self._closed:
            raise TransientError("the store is closed")
        try:
            return asyncio.run_coroutine_threadsafe(bounded(), self._loop).result(self._timeout + 1)
        except TimeoutError as error:
            self._client = self._connect()
            raise TimeoutError(f"no answer within {self._timeout:g} s") from error
        except concurrent.futures.CancelledError as error:
            raise TransientError("the store was closed") from error
        except NotImplementedError as error:
            raise ValueError(f"hdfs-native has no support for {error}") from error
        except RuntimeError as error:
            raise _translated(error) from error
        except OSError as error:
            if "Connection refused" in str(error):  # without a number: the library makes the text only
                raise _ElsewhereError(str(error)) from error
            raise
        except BaseException as error:
            if type(error).__name__ == "PanicException":  # of Rust; not an Exception, so that nobody catches it
                raise OSError(f"hdfs-native failed: {error}") from error
            raise


def _translated(error: RuntimeError) -> Exception:
    shown = _SHOWN.match(str(error))
    if shown is None:
        return OSError(str(error))
    kind, java, text = shown[1], shown[2], (shown[3] or str(error)).partition("\\n")[0]
    if java and java.endswith(".StandbyException"):
        return _ElsewhereError(text)
    if java:
        return JavaError(java, text)
    if kind in _REFUSED:
        return PermissionError(f"{kind}: {text}")
    if kind in _LASTING or kind.startswith("Unsupported"):
        return ValueError(f"{kind}: {text}")
    return OSError(f"{kind}: {text}")


@types.coroutine
def _paced(work: Coroutine[Any, Any, T], pause: float) -> Generator[Any, Any, T]:
    """Await ``work``, and let ``pause`` seconds go by each time before it goes on."""
    steps = work.__await__()
    while True:
        try:
            waited_for = next(steps)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        yield waited_for
        yield from asyncio.sleep(pause).__await__()
