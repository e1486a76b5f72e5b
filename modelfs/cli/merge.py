"""``modelfs merge``."""

from __future__ import annotations

import click

from modelfs.cli.converting import conversion, options, path_of, report
from modelfs.cli.output import progress_bar


@click.command("merge")
@click.argument("location", metavar="STORE[:REF]")
@click.argument("source", metavar="SRC_DIR|INDEX")
@click.argument("destination", metavar="DST")
@options
def command(
    location: str, source: str, destination: str, branch: str, message: str, single_writer: bool, as_json: bool
) -> None:
    """Put a model that is in several files into one of the same format, which consists of the same tensors.

    \b
    modelfs merge /srv/models llama-parts llama.safetensors
    modelfs merge /srv/models llama-parts/model.safetensors.index.json llama.safetensors
    """
    with conversion(location, branch, message, single_writer=single_writer) as task:
        found = task.open(path_of(source))
        with progress_bar("reading for checksums", found.model.size) as advance:
            done = task.merge(found, path_of(destination), advance)
    report(done, as_json=as_json)
