"""What the package says of itself to others."""

from __future__ import annotations

import importlib
import tomllib
from pathlib import Path

from fsspec.spec import AbstractFileSystem


def test_fsspec_finds_modelfs() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    module, _, name = project["entry-points"]["fsspec.specs"]["modelfs"].partition(":")
    found = getattr(importlib.import_module(module), name)
    assert issubclass(found, AbstractFileSystem)
    assert found.protocol == "modelfs"
