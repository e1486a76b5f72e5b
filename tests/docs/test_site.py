"""The documentation's site: built without a warning, whole, and asking nothing of other hosts."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import click
import docs_site
import pytest
import reference

from modelfs.cli.app import COMMANDS, app
from modelfs.settings.options import OPTIONS

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` does."""
    directory = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(directory)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return directory


class Resources(HTMLParser):
    """What a browser fetches by itself for a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in ("script", "img", "iframe", "source", "video", "audio", "embed"):
            self.found.append(given.get("src") or "")
        elif tag == "link" and given.get("rel") not in ("canonical", "prev", "next"):
            self.found.append(given.get("href") or "")


def test_nothing_is_asked_of_other_hosts(site: Path) -> None:
    for page in site.rglob("*.html"):
        reader = Resources()
        reader.feed(page.read_text())
        assert not [found for found in reader.found if re.match(r"(\w+:)?//", found)], page
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import)\s*['\"]?(https?:)?//", sheet.read_text()), sheet


def test_pages_from_elsewhere_are_there_with_their_links(site: Path) -> None:
    for here, there in docs_site.ELSEWHERE.items():
        title = (ROOT / here).read_text().split("\n", 1)[0].removeprefix("# ")
        assert f">{title}<" in (site / there).with_suffix(".html").read_text(), here
    assert 'href="configuration.html"' in (site / "services.html").read_text()
    assert (site / "deploy" / "kubernetes" / "daemonset.yaml").is_file()
    assert 'href="../services.html"' in (site / "howto" / "s3.html").read_text()


def test_the_reference_has_every_command_flag_and_option(site: Path) -> None:
    made = dict(reference.pages())
    context = click.Context(app, info_name="modelfs")
    for name in COMMANDS:
        command = app.get_command(context, name)
        assert command is not None
        assert (site / "reference" / f"{name}.html").is_file()
        named = {words for found in command.params if isinstance(found, click.Option) for words in found.opts}
        assert all(re.search(rf"{flag}(?![\w-])", made[f"reference/{name}.md"]) for flag in named), name
    assert "## modelfs cache warm\n" in made["reference/cache.md"]
    options = made["reference/options.md"]
    assert all(f"## {option.key}\n" in options for option in OPTIONS.values())
    assert "- on the command line: `--write-back`, `--no-write-back`, or `-o write-back`\n" in options


def test_what_help_says_is_shown_as_it_is() -> None:
    assert reference.escaped("as *.attn.* in `a_*`, <hex>\n[x]") == r"as \*.attn.\* in `a_*`, \<hex\> \[x\]".replace(
        r"\>", ">"
    )


def test_a_page_that_benchmarks_write_may_be_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docs_site, "ROOT", tmp_path)
    nav = [{"What": [{"Home": "index.md"}, {"Performance": "performance.md"}]}]
    assert docs_site.present(nav) == [{"What": [{"Home": "index.md"}]}]
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "performance.md").touch()
    assert docs_site.present(nav) == nav
