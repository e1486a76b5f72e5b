"""Every message that docs/troubleshooting.md explains is one that modelfs, or the kernel, really says."""

from __future__ import annotations

import ast
import errno
import os
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "troubleshooting.md"
KERNEL = {os.strerror(number) for number in errno.errorcode}


def said(node: ast.expr) -> str | None:
    """A text of the source as it is shown, with … for what is put in; None for other expressions."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return re.sub(r"%(?:\.\d+)?[sdrf]", "…", node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join((said(part) or "") if isinstance(part, ast.Constant) else "…" for part in node.values)
    return None


def texts() -> set[str]:
    """All texts in modelfs."""
    trees = [ast.parse(path.read_text()) for path in (ROOT / "modelfs").rglob("*.py")]
    found = (said(node) for tree in trees for node in ast.walk(tree) if isinstance(node, ast.expr))
    return {text for text in found if text}


def messages() -> list[str]:
    """The messages of the page: the first code in each row of its tables, in two backquotes where it has some."""
    rows = re.findall(r"^\| (?:`` (.+?) ``|`([^`]+)`)", PAGE.read_text(), re.MULTILINE)
    return [outer or inner for outer, inner in rows]


def test_every_message_is_really_said() -> None:
    listed, known = messages(), texts()
    assert len(listed) == PAGE.read_text().count("\n| `") > 60
    wrong = []
    for message in listed:
        parts = [re.escape(part.strip()) for part in message.split("…") if part.strip()]
        looks = re.compile(".*".join(parts), re.DOTALL)
        if message not in KERNEL and not any(looks.search(text) for text in known):
            wrong.append(message)
    assert not wrong


def test_no_message_stands_there_twice() -> None:
    listed = [message for message in messages() if message not in KERNEL]
    assert len(set(listed)) == len(listed)
