"""``modelfs split``."""

from __future__ import annotations

import click

from modelfs.cli.converting import conversion, max_size_option, options, path_of, report
from modelfs.cli.output import progress_bar
from modelfs.quantities import parse_size


@click.command("split")
@click.argument("location", metavar="STORE[:REF]")
@click.argument("source", metavar="SRC")
@click.argument("destination", metavar="DST_DIR")
@max_size_option
@options
def command(
    location: str,
    source: str,
    destination: str,
    max_size: str,
    branch: str,
    message: str,
    single_writer: bool,
    as_json: bool,
) -> None:
    """Spread a .safetensors or .pt model over several files and an index, as Hugging Face lays them out.

    A tensor is never split, so one that is larger than --max-size has a file of its own. The same model and size give
    the same files, which consist of the tensors that the store has already. A model that is in several files may be
    split anew.

    \b
    modelfs split /srv/models llama/model.safetensors llama-parts
    modelfs split /srv/models llama llama-small-parts --max-size 500MB
    """
    limit = parse_size(max_size)
    with conversion(location, branch, message, single_writer=single_writer) as task:
        found = task.open(path_of(source))
        with progress_bar("reading for checksums", found.model.size) as advance:
            done = task.split(found, path_of(destination), limit, advance)
    report(done, as_json=as_json)
