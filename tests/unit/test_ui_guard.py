"""Who is let in: names, methods, tokens, and what every answer forbids the browser."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from starlette.responses import PlainTextResponse

from modelfs.ui.guard import HEADERS, QUERY_MAX, Guard

GOOD = [("host", "127.0.0.1:8585")]
Answer = tuple[int, dict[str, str], bytes]


def ask(
    headers: list[tuple[str, str]], *, method: str = "GET", query: str = "", token: str | None = "right", **options: Any
) -> Answer:
    guard = Guard(PlainTextResponse("in"), token=token, cookie="c", **options)
    scope = {
        "type": "http",
        "method": method,
        "path": "/",
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers],
    }
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    trio.run(guard, scope, receive, send)
    found = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], found, sent[1]["body"]


@pytest.mark.parametrize(
    "host",
    ["localhost", "LocalHost:1", "127.0.0.1", "127.0.0.1:9", "127.1.2.3", "[::1]:80", "[::1]"],
)
def test_names_of_this_machine(host: str) -> None:
    assert ask([("host", host)], query="token=right")[0] == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8585",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "192.0.2.7",
        "[2001:db8::1]",
        "",
        "[",
        "0x7f.1",
        "localhost@evil",
        "127.0.0.1, evil.example",
    ],
)
def test_foreign_names_are_refused_before_anything_else(host: str) -> None:
    status, _, body = ask([("host", host)], query="token=right")
    assert status == 421
    assert body != b"in"


def test_no_host_and_two_hosts() -> None:
    assert ask([], query="token=right")[0] == 421
    assert ask([*GOOD, ("host", "evil.example")], query="token=right")[0] == 421


def test_beyond_loopback_addresses_and_the_given_name_are_taken() -> None:
    options: dict[str, Any] = {"query": "token=right", "loopback": False, "names": ("Node7",)}
    assert ask([("host", "192.0.2.7:8585")], **options)[0] == 200
    assert ask([("host", "node7:8585")], **options)[0] == 200
    assert ask([("host", "evil.example")], **options)[0] == 421


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "get"])
def test_only_looking(method: str) -> None:
    status, headers, _ = ask(GOOD, method=method, query="token=right")
    assert status == 405
    assert headers["allow"] == "GET, HEAD"


def test_tokens() -> None:
    assert ask(GOOD)[0] == 403
    assert ask(GOOD, query="token=wrong")[0] == 403
    assert ask(GOOD, query="token=")[0] == 403
    assert ask(GOOD, query="token=r%C3%A9ght")[0] == 403
    assert ask([*GOOD, ("cookie", "c=wrong; d=right")])[0] == 403
    assert ask([*GOOD, ("cookie", "d=1; c=right")])[0] == 200
    status, headers, body = ask(GOOD, query="token=right")
    assert (status, body) == (200, b"in")
    assert headers["set-cookie"] == "c=right; HttpOnly; SameSite=Lax; Path=/"
    assert ask(GOOD, token=None)[0] == 200


def test_what_is_too_long() -> None:
    assert ask(GOOD, query="token=right&" + "x" * QUERY_MAX)[0] == 414
    assert ask(GOOD, query="&".join(["token=right"] * 30))[0] == 403  # more words than any address of ours has


@pytest.mark.parametrize(("headers", "query"), [(GOOD, "token=right"), (GOOD, ""), ([], "")])
def test_every_answer_forbids_what_the_pages_do_not_need(headers: list[tuple[str, str]], query: str) -> None:
    _, found, _ = ask(headers, query=query)
    assert {name.lower(): value for name, value in HEADERS.items()}.items() <= found.items()
    policy = found["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "set-cookie" in found or query == ""
