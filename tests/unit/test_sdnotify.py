"""The words to a service manager, heard at a socket as a manager has it."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from modelfs.fuse.sdnotify import Notifier


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """A manager's end of the socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(10)
        yield listening


def heard(manager: socket.socket) -> list[str]:
    return manager.recv(65536).decode().split("\n")


def test_ready_ending_and_patience(manager: socket.socket) -> None:
    told = Notifier.from_environment({"NOTIFY_SOCKET": manager.getsockname()})

    async def life() -> None:
        async with told.patience("some\nwork"):
            await trio.testing.wait_all_tasks_blocked()
        await told.ready("well")
        told.ending(61.5, "bye")

    import trio.testing

    trio.run(life)
    assert heard(manager) == ["STATUS=some work", "EXTEND_TIMEOUT_USEC=30000000"]
    assert heard(manager) == ["READY=1", "STATUS=well"]
    assert heard(manager) == ["STOPPING=1", "STATUS=bye", "EXTEND_TIMEOUT_USEC=61500000"]


def test_an_abstract_socket() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(f"\0modelfs-test-{os.getpid()}")
        assert Notifier(f"@modelfs-test-{os.getpid()}").say("READY=1")
        assert listening.recv(100) == b"READY=1"


@pytest.mark.parametrize(
    ("environment", "beats"),
    [
        ({"WATCHDOG_USEC": "60000"}, True),
        ({"WATCHDOG_USEC": "60000", "WATCHDOG_PID": str(os.getpid())}, True),
        ({"WATCHDOG_USEC": "60000", "WATCHDOG_PID": "1"}, False),
        ({"WATCHDOG_USEC": "0"}, False),
        ({"WATCHDOG_USEC": "soon"}, False),
        ({}, False),
    ],
)
def test_signs_of_life_where_they_are_asked_for(
    manager: socket.socket, environment: dict[str, str], beats: bool
) -> None:
    told = Notifier.from_environment({"NOTIFY_SOCKET": manager.getsockname(), **environment})
    said: list[list[str]] = []

    async def life() -> None:
        with trio.move_on_after(10) as until:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(told.beat, lambda: "line")
                for _ in range(3 if beats else 1):
                    said.append(await trio.to_thread.run_sync(heard, manager))
                nursery.cancel_scope.cancel()
        assert not until.cancelled_caught

    trio.run(life)
    assert said == [["WATCHDOG=1", "STATUS=line"]] * 3 if beats else [["STATUS=line"]]


def test_without_a_manager_and_with_one_that_is_gone(tmp_path: Path) -> None:
    async def life(told: Notifier) -> None:
        await told.ready("well")
        told.ending(1.0, "bye")

    trio.run(life, Notifier.from_environment({}))
    trio.run(life, Notifier.from_environment({"NOTIFY_SOCKET": "vsock:2:1234"}))
    trio.run(life, Notifier.from_environment({"NOTIFY_SOCKET": str(tmp_path / "nobody")}))


def test_a_full_queue_is_waited_for_and_the_loop_goes_on(manager: socket.socket) -> None:
    told = Notifier(manager.getsockname())
    filled = 0
    while told.say("STATUS=x"):
        filled += 1
    assert filled

    async def life() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(told.ready, "at last")
            await trio.sleep(0.05)
            for _ in range(filled):
                heard(manager)

    trio.run(life)
    assert heard(manager) == ["READY=1", "STATUS=at last"]
