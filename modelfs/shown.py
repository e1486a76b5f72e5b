"""How sizes, times and names are shown to people, on a terminal and on a page."""

from __future__ import annotations

from datetime import datetime

from rich.filesize import decimal


def size(count: int) -> str:
    """Bytes for people, in powers of 1000: "4.2 MB"."""
    return decimal(count)


def moment(seconds: float) -> str:
    """A point in time for people, in their time zone."""
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def printable(name: bytes) -> str:
    """A name from a store for people: control characters and bad UTF-8 shown as escapes."""
    text = name.decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def counted(count: int, noun: str) -> str:
    """ "1 file", "2 files"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
