"""Who may ask, and what a browser may do with the answers.

Another user of this machine reaches a loopback address as well, and so does every page that a browser has open. So a
request must carry the token that was printed (in the address, then in a cookie), and its Host must be a name of this
machine: a foreign name that was made to resolve to 127.0.0.1 (DNS rebinding) is refused before anything else. Answers
forbid a browser everything that the pages do not need.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Collection
from typing import Final
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

TOKEN: Final = "token"
QUERY_MAX: Final = 16_384  # characters: a path has 4,096 bytes, three times that when escaped
METHODS: Final = ("GET", "HEAD")

HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
}


class Guard:
    """ASGI middleware. ``loopback``: only names of this machine itself are taken as Host; otherwise any address, and
    ``names``. ``token`` None: everybody may ask. ``cookie``: the name of the cookie that has it."""

    def __init__(
        self, app: ASGIApp, *, token: str | None, cookie: str, loopback: bool = True, names: Collection[str] = ()
    ) -> None:
        self._app = app
        self._token = token
        self._cookie = cookie
        self._loopback = loopback
        self._names = {name.lower() for name in names}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            raise ValueError(f"no {scope['type']} here")
        headers = Headers(scope=scope)
        given = _given(scope)

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                out = MutableHeaders(scope=message)
                out.update(HEADERS)
                if self._token is not None and given is not None and self._right(given):
                    out.append("Set-Cookie", f"{self._cookie}={self._token}; HttpOnly; SameSite=Lax; Path=/")
            await send(message)

        if not self.takes_host(headers.getlist("host")):
            refusal = PlainTextResponse("This page answers to names of its own machine only.\n", 421)
        elif scope["method"] not in METHODS:
            refusal = PlainTextResponse("This page only shows.\n", 405, {"Allow": ", ".join(METHODS)})
        elif len(scope["query_string"]) > QUERY_MAX:
            refusal = PlainTextResponse("That address is too long.\n", 414)
        elif not self._lets_in(headers, given):
            refusal = PlainTextResponse("Open the address that `modelfs ui` printed: it has the token.\n", 403)
        else:
            await self._app(scope, receive, guarded)
            return
        await refusal(scope, receive, guarded)

    def takes_host(self, hosts: list[str]) -> bool:
        """Whether a request with these Host headers is for this page. The port does not matter: it may be forwarded."""
        if len(hosts) != 1:
            return False
        name = hosts[0].strip().lower()
        name = name[1:].partition("]")[0] if name.startswith("[") else name.partition(":")[0]
        if name == "localhost" or name in self._names:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return address.is_loopback or not self._loopback

    def _lets_in(self, headers: Headers, given: str | None) -> bool:
        if self._token is None:
            return True
        cookie = cookie_parser(headers.get("cookie", "")).get(self._cookie)
        return any(found is not None and self._right(found) for found in (given, cookie))

    def _right(self, given: str) -> bool:
        return self._token is not None and hmac.compare_digest(given.encode("utf-8", "replace"), self._token.encode())


def _given(scope: Scope) -> str | None:
    """The token in the address."""
    query = scope["query_string"][:QUERY_MAX].decode("latin-1")
    try:
        found = parse_qs(query, max_num_fields=20).get(TOKEN)
    except ValueError:
        return None
    return found[0] if found else None
