"""How `fsck` and `scrub` show what they found: bounded for people, complete as JSON."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from modelfs import limits
from modelfs.cli.output import counted, facts, printable, size
from modelfs.repository.damage import Damage, Hurt
from modelfs.repository.fsck import Advance, Findings, LinkCount, Stage


def described(found: Findings) -> dict[str, Any]:
    """Everything, for JSON."""
    damages = list(found.damages)
    return {
        "clean": not found.damages.left(),
        "commits": found.commits,
        "unvouched": found.unvouched,
        "tags": found.tags,
        "pages": found.pages,
        "manifests": found.manifests,
        "tensor_tables": found.tables,
        "chunks": found.chunks,
        "read_chunks": found.read_chunks,
        "read_bytes": found.read_bytes,
        "links": asdict(found.links),
        "orphans": None if found.orphans is None else asdict(found.orphans),
        "damaged": len(damages),
        "repaired": len(damages) - found.damages.left(),
        "damage": [_damage(damage) for damage in damages],
    }


def _damage(damage: Damage) -> dict[str, Any]:
    return {
        "object": damage.sort.value,
        "key": damage.key,
        "problem": damage.problem.value,
        "reason": damage.reason,
        "repaired_from": damage.repaired or None,
        "original": damage.original or None,
        "hurts": [{"path": _path(hurt), "commits": hurt.commits()} for hurt in damage.hurts.values()],
    }


def _path(hurt: Hurt) -> str:
    return printable(hurt.path) or "/"


def show(found: Findings) -> None:
    """What a person wants to see: what was looked at, then the first of what is wrong."""
    rows = [
        ("history", f"{counted(found.commits, 'commit')}, {counted(found.tags, 'tag')}"),
        *_unvouched(found),
        ("metadata", f"{counted(found.pages, 'tree page')}, {counted(found.manifests, 'manifest')}"),
        ("chunks", f"{found.chunks}, of which {found.read_chunks} were read ({size(found.read_bytes)})"),
    ]
    rows += _links(found.links)
    if found.orphans is not None:
        o = found.orphans
        objects, held = o.chunks + o.metadata, size(o.chunk_bytes + o.metadata_bytes)
        rows.append(("unused", f"{counted(objects, 'object')}, {held}, and {counted(o.notes, 'delta note')}"))
    facts(rows)
    damages = list(found.damages)
    if not damages:
        click.echo("no damage found")
        return
    click.echo()
    left = found.damages.left()
    groups = sorted(_grouped(damages), key=lambda group: (bool(group[0].repaired), -len(group[0].hurts)))
    for group in groups[: limits.FSCK_SHOWN]:
        _show_damage(group)
    if rest := sum(map(len, groups[limits.FSCK_SHOWN :])):
        click.echo(f"and {counted(rest, 'more damaged object')} (--json shows all)")
    click.echo(f"{counted(len(damages), 'damaged object')}, {len(damages) - left} repaired, {left} left")


def _grouped(damages: list[Damage]) -> list[list[Damage]]:
    """Damages that are shown as one: links to the same original, which may be as many as it has chunks."""
    groups: dict[object, list[Damage]] = {}
    for damage in damages:
        alike = (damage.original, damage.problem, damage.repaired) if damage.original else damage.key
        groups.setdefault(alike, []).append(damage)
    return list(groups.values())


def _links(count: LinkCount) -> list[tuple[str, str]]:
    """What lies outside the store."""
    if not count.chunks:
        return []
    where = counted(count.originals, "original")
    rows = [("linked", f"{counted(count.chunks, 'chunk')}, {size(count.bytes)}, to {where} outside the store")]
    if count.refused:
        what = f"{counted(count.refused, 'chunk')}: --allow-source says which originals may be read"
        rows.append(("not verified", what))
    return rows


def _unvouched(found: Findings) -> list[tuple[str, str]]:
    """What `--verify-with` could not verify; that is no damage."""
    if not found.unvouched:
        return []
    what = counted(found.unvouched, "old commit")
    return [("not verified", f"{what}: unsigned, and the commits that may have vouched for them were collected")]


def _show_damage(group: list[Damage]) -> None:
    damage = group[0]
    outcome = f"repaired from {damage.repaired}" if damage.repaired else damage.problem.value
    click.echo(f"{damage.sort} {damage.key}: {outcome}")
    click.echo(f"    {printable(damage.reason.encode())}")
    if len(group) > 1:
        click.echo(f"    and {counted(len(group) - 1, 'more chunk')} of the same original")
    hurts = list({path: hurt for damage in group for path, hurt in damage.hurts.items()}.values())
    for hurt in hurts[: limits.FSCK_SHOWN]:
        runs = hurt.commits()
        more = f" and {len(runs) - limits.REFS_SHOWN} more runs" if len(runs) > limits.REFS_SHOWN else ""
        click.echo(f"    hurts {_path(hurt)} in {', '.join(runs[: limits.REFS_SHOWN])}{more}")
    if len(hurts) > limits.FSCK_SHOWN:
        click.echo(f"    and {counted(len(hurts) - limits.FSCK_SHOWN, 'more path')}")


@contextlib.contextmanager
def stages() -> Iterator[Stage]:
    """One line of progress for each step, on a terminal only."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}"), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task: TaskID | None = None

        def stage(what: str, units: int) -> Advance:
            nonlocal task
            if task is not None:
                bar.remove_task(task)
            task = current = bar.add_task(what, total=units or None)
            return lambda count: bar.advance(current, count)

        yield stage
