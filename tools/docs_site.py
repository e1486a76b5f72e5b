"""What the documentation's site has beside the files of docs/: hooks of mkdocs, see mkdocs.yml.

Pages of the repository that lie elsewhere appear with their links put right, and the reference is made from the
commands and the table of options (`reference`), so that nothing has to be written twice.
"""

from __future__ import annotations

import posixpath
import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # the reference is that of this tree

import reference  # noqa: E402

ELSEWHERE = {  # in the repository -> on the site
    "README.md": "index.md",
    "docs/README.md": "contents.md",
    "systemd/README.md": "services.md",
    "deploy/README.md": "deploy.md",
    "tools/README.md": "tools.md",
    "CHANGELOG.md": "changelog.md",
}
BESIDE = "deploy"  # whose files its page refers to
_SOURCES = {there: here for here, there in ELSEWHERE.items()}
_LINK = re.compile(r"(\]\()([^)#:\s]+)((?:#[^)\s]*)?\))")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Fill in the navigation: the commands, and only pages that there are."""
    assert config.nav is not None
    config.nav = present(config.nav)
    return config


def present(nav: list[Any]) -> list[Any]:
    """A navigation without the pages that are not there, and with one for each command."""
    kept = []
    for entry in nav:
        [(title, where)] = entry.items()
        if isinstance(where, list):
            kept.append({title: present(where)})
        elif where == reference.INDEX:
            kept.append({title: [*reference.NAVIGATION]})
        elif where in _SOURCES or where.startswith("reference/") or (ROOT / "docs" / where).is_file():
            kept.append(entry)  # docs/performance.md, which benchmarks write, may not be there yet
    return kept


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what lies elsewhere and what is made."""
    for here, there in ELSEWHERE.items():
        files.append(File.generated(config, there, content=(ROOT / here).read_text()))
    for path in (ROOT / BESIDE).rglob("*"):
        if path.is_file() and path.suffix != ".md":
            name = str(path.relative_to(ROOT))
            files.append(File(name, str(ROOT), config.site_dir, config.use_directory_urls))
    for there, text in reference.pages():
        files.append(File.generated(config, there, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links lead to where their targets are on the site."""
    place = page.file.src_uri
    source = _SOURCES.get(place, f"docs/{place}")

    def moved(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), link[2]))
        there = ELSEWHERE.get(target, target.removeprefix("docs/"))
        return f"{link[1]}{posixpath.relpath(there, posixpath.dirname(place) or '.')}{link[3]}"

    return _LINK.sub(moved, markdown)
