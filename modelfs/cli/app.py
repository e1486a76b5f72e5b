"""``modelfs``: the commands, and what an error looks like to a person.

Exit codes: 0 done, 1 something failed on the way, 2 the request itself cannot be met. An error is one line on
standard error. A command's module is imported when the command is used.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Final

import click
from click.shell_completion import CompletionItem

import modelfs
from modelfs.errors import ModelfsError, PermissionDeniedError, ReadOnlyError, UsageError

COMMANDS: Final = {
    "init": "make a store",
    "mount": "mount a store as a directory",
    "umount": "unmount, after what is pending has reached the store",
    "status": "show what is mounted",
    "top": "watch mounts at work",
    "ui": "show mounts and stores as a page for a browser",
    "service": "mounts as services of this machine",
    "doctor": "look whether this machine and a store are fit for mounts",
    "completion": "make a shell complete commands, options and names",
    "config": "where the options of a mount come from",
    "ls": "list files in a store",
    "put": "copy local files into a store",
    "import": "bring in existing directories, buckets and Hugging Face caches",
    "materialise": "copy into a store what it only links to",
    "get": "copy files out of a store",
    "cp": "copy inside a store; no bytes move",
    "convert": "write a model in another format; its tensors stay where they are",
    "split": "spread a model over files of limited size",
    "merge": "put the files of a model into one",
    "log": "show the history of a store",
    "diff": "what changed between two commits, down to the tensors",
    "tag": "name a commit for good",
    "branch": "list, begin and delete branches",
    "sync": "copy what a store has and another one lacks",
    "undelete": "bring back what was deleted or changed",
    "gc": "free what nothing needs any more",
    "du": "how much a store or a path in it takes",
    "stat": "what a store knows of one path",
    "key": "who can open an encrypted store; keys that sign history",
    "fsck": "find and repair damage in a store",
    "scrub": "verify the chunks of a store little by little",
    "cache": "look at, fill and bound the local cache",
    "journal": "look at and handle what is not in the store yet",
}


_MODULES: Final = {"import": "importing"}  # Python keeps some words for itself


class _Commands(click.Group):
    """Looks commands up by module name, so that one command does not pay for the imports of all."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        found: click.Command = importlib.import_module(f"modelfs.cli.{_MODULES.get(cmd_name, cmd_name)}").command
        return found

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Names of commands, without importing any."""
        commands = [CompletionItem(name, help=help) for name, help in COMMANDS.items() if name.startswith(incomplete)]
        return commands + (click.Command.shell_complete(self, ctx, incomplete) if incomplete.startswith("-") else [])

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.command(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    no_args_is_help=True,
)
@click.version_option(modelfs.__version__, prog_name="modelfs")
def app() -> None:
    """Mount a store of model checkpoints as a directory of ordinary files.

    \b
    modelfs init ~/models
    modelfs mount ~/models ~/mnt
    python -c "import torch; torch.save(torch.nn.Linear(8, 8).state_dict(), '$HOME/mnt/model.pt')"
    modelfs umount ~/mnt
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line (None: that of this process) and exit."""
    try:
        app.main(arguments, prog_name="modelfs", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as help_text:
        help_text.show()
        sys.exit(2)
    except click.ClickException as error:
        _say(error.format_message())
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        _say("interrupted")
        sys.exit(130)
    except (UsageError, PermissionDeniedError, ReadOnlyError) as error:
        _say(str(error))
        sys.exit(2)
    except ModelfsError as error:
        _say(str(error))
        sys.exit(1)
    except BrokenPipeError:
        # The reader of our output has enough. Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        _say(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        sys.exit(1)


def _say(message: str) -> None:
    click.echo(f"modelfs: {' '.join(message.split())}", err=True)
