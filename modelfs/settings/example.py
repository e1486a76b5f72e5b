"""A configuration file to begin with: all options with what they do, commented out, made from the table."""

from __future__ import annotations

import json
import textwrap
from typing import Final

from modelfs.settings.options import OPTIONS, Option

_SAMPLES: Final = {
    "store": "s3://checkpoints/team-a",
    "mountpoint": "/srv/models",
    "at": "v1.2",
    "cache_dir": "/var/cache/modelfs/team-a",
    "cache_size": "50GB",
    "uid": 1000,
    "gid": 1000,
    "umask": "027",
    "compression": "balanced",
    "passphrase_file": "/etc/modelfs/team-a.passphrase",
    "passphrase_command": "pass show team-a",
    "key_file": "/etc/modelfs/team-a.key",
    "verify_with": ["/etc/modelfs/trusted.keys"],
    "allow_source": ["/srv/checkpoints", "s3://old-bucket/runs"],
    "sign_with": "/etc/modelfs/sign.key",
    "fuse_options": ["noatime"],
    "metrics": "127.0.0.1:9101",
    "log_file": "/var/log/modelfs-team-a.log",
}


def example() -> str:
    """The text of an example file."""
    parts = [
        "# A mount: /etc/modelfs/NAME.toml or ~/.config/modelfs/NAME.toml, mounted by `modelfs mount NAME`.\n"
        "# Flags and variables (MODELFS_CACHE_SIZE for cache-size) go before what is written here;\n"
        "# `modelfs config check FILE` finds mistakes, `modelfs config show NAME` says which value comes from where.\n"
    ]
    for option in OPTIONS.values():
        words = textwrap.fill(_words(option), 110, initial_indent="# ", subsequent_indent="# ")
        mark = "" if option.argument else "#"
        parts.append(f"{words}\n{mark}{line(option)}\n")
    return "\n".join(parts)


def line(option: Option) -> str:
    """A line that sets an option to something that it may be."""
    return f"{option.key} = {_toml(_sample(option))}"


def _words(option: Option) -> str:
    known = [f"One of {', '.join(option.choices)}."] if option.choices else []
    return " ".join([option.help, *known])


def _sample(option: Option) -> object:
    if option.name in _SAMPLES:
        return _SAMPLES[option.name]
    if option.switch:
        return not option.default
    return option.default if isinstance(option.default, float) else option.shown(option.default)


def _toml(value: object) -> str:
    """Texts, lists of texts, numbers and truth values are written the same in TOML and JSON."""
    return f"{value:g}" if isinstance(value, float) else json.dumps(value, ensure_ascii=False)
