"""``modelfs cache``: the verbs that look at, fill, bound and copy the chunks kept on this machine, one group a module.

All of them work beside running mounts: what processes share of a cache is in `modelfs.cache`.
"""

from __future__ import annotations

import click

from modelfs.cli.cache.check import verify
from modelfs.cli.cache.copy import export, take_in
from modelfs.cli.cache.keep import clear, evict, pin, resize, unpin
from modelfs.cli.cache.look import ls, stats
from modelfs.cli.cache.map import map_
from modelfs.cli.cache.warm import warm


@click.group("cache", no_args_is_help=True)
def command() -> None:
    """Look at and manage the chunks kept on this machine. Works while mounts are running.

    \b
    modelfs cache stats
    modelfs cache warm /srv/models llama-3 --at v1.2
    modelfs cache pin /srv/models llama-3/model.safetensors
    modelfs cache map ~/models/llama-3/model.safetensors
    modelfs cache evict --to 20GB
    """


for verb in (stats, ls, map_, warm, pin, unpin, evict, resize, verify, clear, export, take_in):
    command.add_command(verb)
