"""Templates and what they may use. Everything that is filled in is escaped; nothing is marked as safe."""

from __future__ import annotations

import time
from functools import cache
from importlib.resources import files
from typing import Any, Final
from urllib.parse import urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined

import modelfs
from modelfs.shown import counted, moment, printable, size
from modelfs.ui.draw import HEIGHT, LEFT, STRIP, TOP, WIDTH, name_of

ASSETS: Final = {"style.css": "text/css", "live.js": "text/javascript", "icon.svg": "image/svg+xml"}


def link(path: str, /, **query: str | bytes | int | None) -> str:
    """An address on this page; bytes are names from a store, and None is left out."""
    given = {name: value for name, value in query.items() if value is not None}
    return f"{path}?{urlencode(given)}" if given else path


def percent(share: float | None) -> str:
    """ "97 %", and never 100 or 0 for what is not quite that."""
    if share is None:
        return ""
    if 0 < share < 1:
        return f"{min(99.9, max(0.1, 100 * share)):.1f} %" if share < 0.1 or share > 0.9 else f"{100 * share:.0f} %"
    return f"{100 * share:.0f} %"


def duration(seconds: float) -> str:
    """For people: "12 s", "4 min", "3.2 h", "5 d"."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def shown(name: bytes | str) -> str:
    """A name from a store or this machine."""
    return printable(name if isinstance(name, bytes) else name.encode("utf-8", "surrogateescape"))


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("modelfs.ui"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "size": lambda count: size(int(count)),
        "moment": moment,
        "shown": shown,
        "below": lambda path, name: path + b"/" + name if path else name,
        "percent": percent,
        "duration": duration,
        "tensor_name": name_of,
    }
    made.globals |= {"link": link, "counted": counted, "version": modelfs.__version__}
    made.globals |= {"WIDTH": WIDTH, "HEIGHT": HEIGHT, "LEFT": LEFT, "TOP": TOP, "STRIP": STRIP}
    return made


def page(template: str, **facts: Any) -> str:
    """A page as HTML."""
    return _environment().get_template(template).render(now=time.time(), **facts)


@cache
def asset(name: str) -> bytes:
    """A file that pages refer to."""
    return files("modelfs.ui").joinpath("static", name).read_bytes()
