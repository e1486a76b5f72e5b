"""URLs and ``storage_options`` -> what is to be served.

    modelfs://@NAME/path              the store and options of the mount NAME (a configuration file)
    modelfs://path, store=URL         storage_options say which store
    modelfs://path::file:///srv/m     as fsspec chains URLs: the store is what stands behind

Options are those of a mount, by the names that they have in Python (``cache_size``), and come from storage_options,
then the environment, then the file of ``@NAME``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from modelfs.assembly.secret import chosen_secret
from modelfs.assembly.wanted import absolute_store, mount_options
from modelfs.config import MountOptions
from modelfs.errors import UsageError
from modelfs.settings import files
from modelfs.settings.options import OPTIONS, Settings
from modelfs.settings.resolve import Given, check_together, resolve
from modelfs.store.open import redact_url

PROTOCOL: Final = "modelfs"
_PREFIX: Final = f"{PROTOCOL}://"
_KERNEL: Final = frozenset(
    ("mountpoint", "allow_other", "uid", "gid", "umask", "session", "fuse_options", "metrics", "log_file")
)
KNOWN: Final = tuple(name for name in OPTIONS if name not in _KERNEL and name not in ("store", "debug"))
_ALIASES: Final = {"ref": "at"}


@dataclass(frozen=True, slots=True)
class Place:
    """One store under one set of options: who asks for the same shares an engine."""

    store: str
    settings: Settings

    def options(self) -> MountOptions:
        """For `open_stack`. Reads the secret that the options name. UsageError."""
        return mount_options(self.settings, self.store, Path("fsspec"), chosen_secret(self.settings))

    def __str__(self) -> str:
        ref = self.settings.at if self.settings.at is not None else self.settings.branch
        return f"{redact_url(self.store)}:{ref}"


def split_url(url: str) -> tuple[str | None, str]:
    """``@NAME`` of a URL, if it has one, and the path. What has no ``modelfs://`` in front is a path."""
    for prefix in (_PREFIX, f"{PROTOCOL}::"):
        if url.startswith(prefix):
            rest = url[len(prefix) :]
            if rest.startswith("@"):
                name, _, path = rest.partition("/")
                return name, path
            return None, rest
    return None, url


def place(given: Mapping[str, Any]) -> Place:
    """What ``storage_options`` name. UsageError."""
    options = {_ALIASES.get(name, name): value for name, value in given.items()}
    if len(options) < len(given):
        raise UsageError("at and ref are one option: one of them, please")
    store = _store(options)
    file = None
    if store.startswith("@"):
        name = store[1:]
        file = files.read(Path(name).expanduser().absolute() if "/" in name else files.find(name))
        if "store" not in file.values:
            raise UsageError(f"{file.path}: it has no store")
        store = str(file.values["store"])
    chosen = resolve({name: _given(name, value) for name, value in options.items()}, os.environ, file, KNOWN).settings
    check_together(chosen)
    return Place(absolute_store(store), chosen)


def _store(options: dict[str, Any]) -> str:
    """Which store the options name, which are taken out."""
    store, protocol, where = (options.pop(key, None) for key in ("store", "target_protocol", "fo"))
    if extra := options.pop("target_options", None):
        raise UsageError(f"{', '.join(map(str, extra))}: a store has no options here, see the list of credentials")
    if protocol is not None:
        if store is not None:
            raise UsageError("store and the URL after :: are both given: one of them, please")
        # fsspec hands over the path that its own implementation would get.
        store = where if protocol in ("file", "local") else f"{protocol}://{where}"
    if store is None:
        raise UsageError("which store? modelfs://@NAME/path, storage_options={'store': URL} or modelfs://path::URL")
    if not isinstance(store, str | os.PathLike) or not os.fspath(store):
        raise UsageError(f"store: a directory or a URL is expected, not {str(store)[:80]!r}")
    return str(os.fspath(store))


def _given(name: str, value: Any) -> Given:
    if name in _KERNEL:
        raise UsageError(f"{name}: only a mount has this option")
    if name not in KNOWN:
        close = get_close_matches(name, KNOWN, n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        raise UsageError(f"{name[:80]}: there is no such option{hint}")
    option = OPTIONS[name]
    if value is None:
        return Given(option.default, name)
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    try:
        if (option.many and isinstance(value, str)) or (option.switch and isinstance(value, str)):
            return Given(option.value_of_text(value), name)
        return Given(option.value(list(value) if option.many else value), name)
    except UsageError as error:
        raise UsageError(f"{name}: {error}") from error
