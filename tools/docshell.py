"""The code blocks of Markdown pages, as the tests of the documentation and `newcomer.py` run them.

A block runs where a reader would run it: after the blocks before it on its page, in the same shell. What runs:
``sh`` (commands), ``console`` (lines that begin with ``$`` are commands, the others what they print), ``python`` (a
program). A block that cannot run where the tests do has its reason in a comment before it, which no reader sees::

    <!-- not run: needs a bucket -->

The standard library is enough for it.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SHELL = ("sh", "console")
RUNS = (*SHELL, "python")

_FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_REASON = re.compile(r"<!-- not run: (.+?) -->\n*\Z", re.DOTALL)
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_BEFORE = {"sudo", "do", "then", "else", "time", "exec", "!", "if", "while", "env"}  # words in front of a command


@dataclass(frozen=True)
class Block:
    """One code block. ``line``: of its fence; ``section``: the heading above; ``why_not``: why it does not run."""

    page: Path
    line: int
    section: str
    language: str
    text: str
    why_not: str | None

    @property
    def runs(self) -> bool:
        """True for what the tests run."""
        return self.language in RUNS and self.why_not is None

    @property
    def shell(self) -> str:
        """What a shell is to run."""
        if self.language == "python":
            return f"python - <<'END_OF_PYTHON'\n{self.text}END_OF_PYTHON\n"
        if self.language == "console":
            return "".join(f"{line[2:]}\n" for line in self.text.splitlines() if line.startswith("$ "))
        return self.text


def blocks(page: Path) -> list[Block]:
    """All code blocks of a page, in order."""
    text, found = page.read_text(), []
    for fence in _FENCE.finditer(text):
        before = text[: fence.start()]
        # A heading is looked for outside of code, where # begins a comment.
        headings = _HEADING.findall(_FENCE.sub("", before))
        reason = _REASON.search(before)
        found.append(
            Block(
                page,
                before.count("\n") + 1,
                headings[-1] if headings else "",
                fence[1],
                fence[2],
                " ".join(reason[1].split()) if reason else None,
            )
        )
    return found


def lines(shell: str) -> list[str]:
    """The commands of a block of shell, one for each line that ends one: joined where a backslash says so. Blank lines
    and comments of their own are left out."""
    joined = re.sub(r"\\\n\s*", "", shell)
    return [line for line in joined.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def calls(shell: str, program: str) -> Iterator[list[str]]:
    """The words after ``program`` wherever a shell would start it: in pipes, behind ``&&``, ``sudo``, ``X=1`` or
    ``do``, and within ``$(…)``."""
    for line in lines(shell):
        yield from _calls(line, program)
        for inner in re.findall(r"\$\((.+?)\)", line):
            yield from _calls(inner, program)


def _calls(line: str, program: str) -> Iterator[list[str]]:
    reader = shlex.shlex(line, posix=True, punctuation_chars="();<>|&")
    reader.whitespace_split = True
    command: list[str] = []
    for word in [*reader, ";"]:
        if set(word) <= set("();<>|&"):
            while command and (command[0] in _BEFORE or re.match(r"\w+=", command[0])):
                del command[0]
            if command and Path(command[0]).name == program:
                yield command[1:]
            # What follows < and > is the name of a file, which no command is called.
            command = ["<"] if set(word) & set("<>") else []
        else:
            command.append(word)
