"""Every command in the documentation: those that can run here do, all others must at least be commands that there are.

What runs and what does not is said in the pages themselves (`docshell`). A page is one shell in a home of its own, in
which ``modelfs`` is this one.
"""

from __future__ import annotations

import inspect
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import click
import pytest
from commandlines import parse, sandboxed
from docshell import RUNS, SHELL, Block, blocks, calls
from servers import S3Server

from modelfs.cli.app import app
from modelfs.fuse.mountpoint import mount_table
from modelfs.settings import files
from modelfs.settings.options import BY_KEY

ROOT = Path(__file__).parents[2]
PAGES = [
    page
    for pattern in ("README.md", "docs/**/*.md", "systemd/*.md", "tools/*.md", "deploy/**/*.md")
    for page in sorted(ROOT.glob(pattern))
]
BLOCKS = [block for page in PAGES for block in blocks(page)]
RUNNING = {page: [block for block in BLOCKS if block.page == page and block.runs] for page in PAGES}


def _marked(page: Path) -> object:
    """A page as a parameter; one that needs TensorFlow can be left out as all tests of it."""
    tensorflow = any("tensorflow" in block.text for block in RUNNING[page])
    return pytest.param(page, id=_name(page), marks=[pytest.mark.tensorflow] if tensorflow else [])


def _name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def _place(block: Block) -> str:
    return f"{_name(block.page)}:{block.line}"


def buckets(page: Path) -> set[str]:
    """The S3 buckets that a page's blocks want to find."""
    return {name for block in RUNNING[page] for name in re.findall(r"s3://([\w-]+)", block.text)}


def run_page(page: Path, directory: Path, more: Mapping[str, str]) -> str:
    """Run a page in a home of its own; what went wrong, or ""."""
    script = directory / "page.sh"
    script.write_text("".join(f"\n: line {block.line}\n{block.shell}" for block in RUNNING[page]))
    with sandboxed(directory) as environment:
        done = subprocess.run(
            ["bash", "-eux", "-o", "pipefail", str(script)],
            env={**environment, **more},
            cwd=environment["HOME"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=280,
            check=False,
        )
        left = [entry.path for entry in mount_table() if entry.path.startswith(f"{directory}/")]
    if done.returncode:
        return f"{_name(page)}:\n{done.stdout[-6000:]}"
    return f"{_name(page)} leaves {left} mounted" if left else ""


Begin = Callable[[Path, Mapping[str, str]], "Future[str]"]


@pytest.fixture(scope="module")
def begin(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Begin]:
    """Begins a page. Those that are going to be asked for begin at once, since they do not know of each other."""
    begun: dict[Path, Future[str]] = {}

    def one(page: Path, more: Mapping[str, str]) -> Future[str]:
        if page not in begun:
            begun[page] = pool.submit(run_page, page, tmp_path_factory.mktemp("page"), more)
        return begun[page]

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for item in request.session.items:
            if getattr(item, "originalname", "") == test_the_blocks_of_a_page_run_in_order.__name__:
                page = item.callspec.params["page"]
                if not buckets(page):
                    one(page, {})
        yield one
        pool.shutdown(cancel_futures=True)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", [_marked(page) for page in PAGES if RUNNING[page]])
def test_the_blocks_of_a_page_run_in_order(page: Path, begin: Begin, request: pytest.FixtureRequest) -> None:
    more = {}
    if wanted := buckets(page):
        server: S3Server = request.getfixturevalue("s3_server")
        for name in wanted:
            server.make_bucket(name)
        more = server.environment
    wrong = begin(page, more).result()
    assert not wrong, wrong


def test_what_is_not_run_says_why() -> None:
    """Commands in a language that does not run would be neither run nor looked at."""
    strays = [
        _place(block) for block in BLOCKS if block.language not in RUNS and re.search(r"^\$? ?modelfs ", block.text)
    ]
    assert not strays
    assert all(len(block.why_not) > 10 for block in BLOCKS if block.why_not is not None)


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language in SHELL], ids=_place)
def test_every_command_in_a_block_exists(block: Block) -> None:
    if shutil.which("bash"):
        subprocess.run(["bash", "-n"], input=block.shell, text=True, check=True)
    for words in calls(block.shell, "modelfs"):
        parse(words)
    for words in calls(block.shell, "make"):
        assert re.search(rf"^{words[0]}:", (ROOT / "Makefile").read_text(), re.MULTILINE), words
    for program in re.findall(r"(?<![\w/.-])tools/[\w.-]+", block.shell):
        assert (ROOT / program).is_file(), program


def spans() -> Iterator[tuple[Path, str]]:
    """Code within sentences that begins with ``modelfs``. Of ``a|b`` both; what is in brackets may be there."""
    for page in PAGES:
        if page.name == "store-format.md":
            continue  # what stands so there are bytes
        text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
        for span in re.findall(r"`(modelfs [^`]+)`", text):
            plain = re.sub(r"[\[\]…]", "", " ".join(span.replace("\\|", "|").split()))
            choice = re.search(r"([\w-]+(?:\|[\w-]+)+)", plain)
            for word in choice[1].split("|") if choice else [""]:
                yield page, plain.replace(choice[1], word) if choice else plain


def test_every_command_in_a_sentence_exists() -> None:
    wrong = []
    for page, span in spans():
        words = span.split()[1:]
        command: click.Command = app
        while words and isinstance(command, click.Group):
            found = command.get_command(click.Context(command), words[0])
            if found is None:
                if not words[0].startswith("-"):
                    wrong.append(f"{_name(page)}: {span}")
                break
            command = found
            del words[0]
        known = {flag for option in command.params for flag in (*option.opts, *option.secondary_opts)}
        known |= {"--help", "--version"}
        wrong += [f"{_name(page)}: {span}: {word}" for word in words if word.startswith("-") and word not in known]
    assert not wrong


def test_extras_that_are_named_exist() -> None:
    import tomllib

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for page in PAGES:
        for named in re.findall(r"(?:modelfs|'\.)\[([a-z,0-9]+)\]", page.read_text()):
            assert set(named.split(",")) <= set(extras), f"{_name(page)}: {named}"


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == "toml"], ids=_place)
def test_configuration_in_the_pages_is_valid(block: Block, tmp_path: Path) -> None:
    path = tmp_path / "named.toml"
    path.write_text(block.text)
    assert set(files.read(path).values) <= {option.name for option in BY_KEY.values()} | set(BY_KEY)


def below(command: click.Command) -> Iterator[click.Command]:
    """A command and all that it has."""
    yield command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from below(found)


def test_flags_that_sentences_name_exist() -> None:
    """Flags alone in backquotes, such as `--cache-dir`, belong to some command."""
    known = {"--help", "--version"}
    for command in below(app):
        known.update(flag for option in command.params for flag in (*option.opts, *option.secondary_opts))
    known |= {"--keep"}  # a family
    known |= {"--verify", "--stop-timeout"}  # of stress-ng, of docker
    for page in PAGES:
        named = set(re.findall(r"`(--[a-z][a-z-]+)[ `=]", page.read_text()))
        assert named <= known, f"{_name(page)}: {sorted(named - known)}"


def test_examples_in_the_help_exist() -> None:
    for command in below(app):
        for example in re.findall(r"^\b\n(.*?)(?:\n\n|\Z)", inspect.cleandoc(command.help or ""), re.M | re.S):
            for words in calls(example, "modelfs"):
                parse(words)
