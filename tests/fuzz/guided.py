"""One target under atheris (https://github.com/google/atheris), which looks for inputs that reach new code."""

from __future__ import annotations

import random
import sys
import tempfile
from pathlib import Path

import atheris


def main(name: str, inputs: str, seed: str, findings: str) -> None:
    """Never returns: atheris ends the process, with an input in ``findings`` when one fails."""
    with atheris.instrument_imports(include=["modelfs"]):
        from fuzz.targets import table
    target = table()[name]
    rng = random.Random(int(seed))

    def one(data: bytes) -> None:
        try:
            target.run(data)
        except target.allowed:
            return

    def change(data: bytes, size: int, number: int) -> bytes:
        rng.seed(number)
        mutation = rng.choice((*target.mutations, None))
        changed = atheris.Mutate(data, size) if mutation is None else mutation(rng, bytes(data), bytes(data))
        return bytes(changed[:size])

    with tempfile.TemporaryDirectory() as corpus:
        for number, data in enumerate(target.all_seeds()):
            (Path(corpus) / str(number)).write_bytes(data)
        arguments = [
            name,
            f"-runs={inputs}",
            f"-seed={int(seed) + 1}",
            "-timeout=10",
            "-rss_limit_mb=3000",
            "-verbosity=0",
        ]
        arguments += ["-max_len=65536", f"-artifact_prefix={findings}/{name}-", corpus]
        atheris.Setup(arguments, one, custom_mutator=change)
        atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
