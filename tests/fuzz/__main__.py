"""``python -m fuzz``: run the decoders over many inputs; exit code 1 and the inputs in files when something is found.

python -m fuzz --inputs 100000 --seed 7             all targets, the inputs shared out among them
python -m fuzz --inputs 50000 --target hdf5
python -m fuzz --atheris --inputs 20000             guided by coverage, where the package atheris is installed
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

_ADDRESS_SPACE = 6 << 30  # of which libraries reserve most; a real bomb hits it


def main() -> int:
    """Run as the arguments say."""
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--inputs", type=int, default=100_000, help="how many, over all targets")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--target", action="append", help="only these targets")
    parser.add_argument("--atheris", action="store_true", help="let atheris choose the inputs")
    parser.add_argument("--findings", type=Path, default=Path("fuzz-findings"), help="where inputs that fail are kept")
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (_ADDRESS_SPACE, _ADDRESS_SPACE))
    from fuzz.targets import table

    targets = table()
    unknown = sorted(set(options.target or ()) - targets.keys())
    if unknown:
        parser.error(f"no target {unknown[0]}: {', '.join(targets)}")
    chosen = [targets[name] for name in options.target or targets]
    share = -(-options.inputs // len(chosen))
    if options.atheris:
        return _guided([target.name for target in chosen], share, options.seed, options.findings)
    from fuzz.runner import fuzz

    failed = 0
    for target in chosen:
        began = time.monotonic()
        for found in fuzz(target, share, options.seed):
            failed += 1
            options.findings.mkdir(exist_ok=True)
            path = options.findings / f"{target.name}-{options.seed}-{failed}"
            path.write_bytes(found.data)
            click.echo(f"{target.name}: {found.what} ({path})")
        click.echo(f"{target.name}: {share} inputs in {time.monotonic() - began:.1f} s")
    click.echo(f"{share * len(chosen)} inputs, {failed} findings")
    return 1 if failed else 0


def _guided(names: list[str], share: int, seed: int, findings: Path) -> int:
    """One process for each target: atheris ends the process it runs in, and nothing in there is cleaned up."""
    failed = 0
    findings.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="modelfs-fuzz-") as scratch:
        for name in names:
            command = [sys.executable, "-m", "fuzz.guided", name, str(share), str(seed), str(findings)]
            if subprocess.run(command, check=False, env={**os.environ, "TMPDIR": scratch}).returncode:
                failed += 1
                click.echo(f"{name}: failed (see {findings})")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
