"""``modelfs convert``."""

from __future__ import annotations

import click

from modelfs.cli.converting import conversion, max_size_option, options, path_of, report
from modelfs.cli.output import progress_bar
from modelfs.convert.conversion import TARGETS
from modelfs.quantities import parse_size


@click.command("convert")
@click.argument("location", metavar="STORE[:REF]")
@click.argument("source", metavar="SRC")
@click.argument("destination", metavar="DST")
@click.option("--to", "format", type=click.Choice(list(TARGETS)), help="Format of DST, if its name does not say.")
@max_size_option
@options
def command(
    location: str,
    source: str,
    destination: str,
    format: str | None,
    max_size: str,
    branch: str,
    message: str,
    single_writer: bool,
    as_json: bool,
) -> None:
    """Write a model in another format: .safetensors, .pt, .npz, .gguf, .h5, or a TensorFlow bundle (.index).

    The new file consists of the tensors that the store has already; only headers are added to it. Nothing of a pickle
    is run. SRC is a file, the .index.json of a model in several files, or a directory with one model. A DST that ends
    in .safetensors.index.json is written in several files, as Hugging Face lays them out.

    \b
    modelfs convert /srv/models runs/7/model.pt release/model.safetensors
    modelfs convert /srv/models:v1.2 llama release/llama.gguf
    modelfs convert s3://checkpoints/team-a big.pt big/model.safetensors.index.json --max-size 2GB
    """
    limit = parse_size(max_size)
    with conversion(location, branch, message, single_writer=single_writer) as task:
        found = task.open(path_of(source))
        with progress_bar("reading for checksums", found.model.size) as advance:
            done = task.convert(found, path_of(destination), format, limit, advance)
    report(done, as_json=as_json)
