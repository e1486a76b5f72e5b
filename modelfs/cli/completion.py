"""``modelfs completion``."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

VARIABLE = "_MODELFS_COMPLETE"  # as click calls it: the shell's function runs modelfs with it


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print what makes SHELL complete modelfs's commands, options, files and names of mounts.

    \b
    modelfs completion bash > /etc/bash_completion.d/modelfs
    modelfs completion zsh > "${fpath[1]}/_modelfs"
    modelfs completion fish > ~/.config/fish/completions/modelfs.fish
    """
    made = get_completion_class(shell)
    assert made is not None  # click knows all three
    root = click.get_current_context().find_root().command
    # Not its source(), which looks for bash 4.4 on this machine and not on the one that completes.
    described = made(root, {}, "modelfs", VARIABLE)
    click.echo(described.source_template % described.source_vars())
