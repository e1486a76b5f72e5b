"""The light half of the framework matrix: each framework's own save on one mount, its own load on another one.

`make frameworks` runs all of it, on S3.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from frameworks import calls, page
from frameworks.environments import HERE, Environment, RowSpec, UnavailableError, build, cache_directory, load
from frameworks.matrix import Case, Result, run_light
from frameworks.place import local, two_machines

ENVIRONMENTS, ROWS = load()
TENSORFLOW = ("tensorflow2", "keras_")


Mounts = tuple[Path, Path]


@pytest.fixture(scope="module")
def mounts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mounts]:
    with local(tmp_path_factory.mktemp("place")) as place:
        first, second = two_machines(place)
        with first as saving, second as loading:
            yield saving, loading


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.tensorflow] if name in TENSORFLOW else [])
        for name, row in ROWS.items()
        if row.light
    ],
)
def test_what_was_loaded_is_what_was_saved(name: str, mounts: Mounts) -> None:
    result = run_light(ROWS[name], cache_directory(), *mounts, lambda what: None)
    assert [case.name for case in result.cases] == ROWS[name].light
    assert result.passed, page.table([result])


def test_every_row_is_there() -> None:
    for row in ROWS.values():
        assert row.environment in ENVIRONMENTS or row.tried, row.name
        assert row.path.exists() or row.tried, row.name


def test_the_page_has_every_row() -> None:
    shown = page.PAGE.read_text()
    for row in ROWS.values():
        assert f"\n## {row.title}\n" in shown, row.title


def test_a_page_says_what_failed() -> None:
    good = Case("a", "`save`", "", {"disk save": 0.5, "mount save": 1.0}, 1, 2_000_000, 1_000_000, "open 1")
    bad = Case("b", "`save`", "mount load: the weights differ from those of the disk save")
    results = [
        Result("x", "X", "1.0", [good, bad]),
        Result("y", "Y", "2.0", [good]),
        Result("z", "Z", unavailable="No wheels."),
    ]
    shown = page.text(results)
    assert "1 of 3 rows pass" in shown
    assert "| [X](#x) | 1.0 | a; b | 1 of 2 fail |" in shown
    assert "| **a**: `save` | 1 | 2.0 MB | 0.50 s, 1.00 s | –, – | 1.0 MB | passes |" in shown
    assert "mount load: the weights differ" in shown
    assert "## Z\n\nNot run. No wheels." in shown


def test_system_calls_of_each_case_in_words(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(
        '7 openat(AT_FDCWD</x>, "/d/row/one/a", O_RDWR|O_CREAT|O_EXCL, 0600) = 3</d/row/one/a>\n'
        '8 write(3</d/row/one/a>, "..."..., 9) = 9\n'
        '7 write(3</d/row/one/a>, "..."..., 9 <unfinished ...>\n'
        '7 rename("/d/row/one/a", "/d/row/one/b") = 0\n'
        "7 mmap(NULL, 9, PROT_READ|PROT_WRITE, MAP_SHARED, 4</d/row/two/a>, 0) = 0x7f\n"
        '7 openat(AT_FDCWD</x>, "/d/row/two/", O_RDONLY|O_DIRECTORY) = 4</d/row/two>\n'
        "7 fcntl(4</d/row/two/a>, F_OFD_SETLK, {}) = 0\n"
        "7 lseek(4</d/row/two/a>, 0, SEEK_SET) = 0\n"
        '7 unlinkat(AT_FDCWD</x>, "/d/row/two/b", AT_REMOVEDIR) = 0\n'
    )
    found = calls.of_cases(log, Path("/d/row"))
    assert {case: calls.in_words(counted) for case, counted in found.items()} == {
        "one": "write 2, open 1, open O_EXCL 1, open O_RDWR 1, rename 1",
        "two": "mmap shared for writing 1, fcntl lock 1, rmdir 1",
    }


def test_an_environment_that_cannot_be_made_says_why(tmp_path: Path) -> None:
    known = {
        "program": Environment("program", programs=["no-such-program"]),
        "python": Environment("python", python="2.1"),
        "package": Environment("package", [["--no-index", "no-such-package"]], extends="tests"),
        **ENVIRONMENTS,
    }
    for name, why in (
        ("program", "no-such-program"),
        ("python", "no Python 2.1"),
        ("package", "No matching distribution"),
    ):
        with pytest.raises(UnavailableError, match=why):
            build(name, known, tmp_path)


def test_damage_is_a_verdict(mounts: Mounts, tmp_path: Path) -> None:
    """The comparison itself: a row whose load gives other weights, or other predictions, or none."""
    script = tmp_path / "row.py"
    script.write_text(
        "import os, sys\n"
        f"sys.path.insert(0, {str(HERE)!r})\n"
        "import rowkit\n"
        "def save(model, directory): (directory / 'a').write_text(str(model))\n"
        "def load(directory): return int((directory / 'a').read_text())\n"
        "def other(directory): return load(directory) + 1\n"
        "def fails(directory): raise OSError('no\\nway')\n"
        "row = rowkit.Row('X', lambda: '1')\n"
        "model, weights, predict = (lambda: 7), (lambda model: [model]), (lambda model: [model])\n"
        "row.add('good', '', model, save, load, weights, predict)\n"
        "row.add('weights', '', model, save, other, weights, predict)\n"
        "row.add('predictions', '', model, save, other, lambda model: [], predict)\n"
        "row.add('fails', '', model, save, fails, weights, predict)\n"
        "row.main()\n"
    )
    result = run_light(RowSpec("x", "X", path=script), cache_directory(), *mounts, lambda what: None)
    assert [case.verdict for case in result.cases] == [
        "",
        "mount load: the weights differ from those of the mount save",
        "mount load: the predictions differ from those of the mount save",
        "mount load: OSError: no way",
    ]
