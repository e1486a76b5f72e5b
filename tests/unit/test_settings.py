"""Options of a mount: one table, four sources, and files whose mistakes are found by line."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelfs import limits
from modelfs.cli import mount
from modelfs.cli.config import show
from modelfs.config import MountOptions
from modelfs.errors import UsageError
from modelfs.quantities import parse_size, size_text
from modelfs.settings import files
from modelfs.settings.example import example
from modelfs.settings.mountwords import split_words
from modelfs.settings.options import BY_KEY, OPTIONS, Option, Settings
from modelfs.settings.resolve import Given, check_together, resolve

RENAMED = {"store": "store_url"}  # of the table -> of MountOptions; the secret is one thing there


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "a.toml"
    path.write_text(text)
    return path


def refused(tmp_path: Path, text: str) -> str:
    path = write(tmp_path, text)
    with pytest.raises(UsageError) as caught:
        files.read(path)
    return str(caught.value).replace(str(path), "FILE")


# -- one table ------------------------------------------------------------------------------------------------------


def test_the_table_has_all_options_of_a_mount_and_their_defaults() -> None:
    fields = {field.name: field.default for field in dataclasses.fields(MountOptions)}
    table = {RENAMED.get(name, name): option.default for name, option in OPTIONS.items()}
    secrets = {name: table.pop(name) for name in ("passphrase_file", "passphrase_command", "key_file")}
    assert set(secrets.values()) == {fields.pop("secret")} == {None}
    assert table.keys() == fields.keys()
    for name in fields.keys() - {"store_url", "mountpoint"}:
        assert table[name] == fields[name], name


@pytest.mark.parametrize("command", [mount.command, show])
def test_flags_and_table_are_the_same(command: click.Command) -> None:
    flags = {word for found in command.params if isinstance(found, click.Option) for word in found.opts}
    ours = {
        "-o" if option.name == "fuse_options" else option.flag for option in OPTIONS.values() if not option.argument
    }
    assert flags - {"-f", "--foreground", "--config", "--json"} == ours


def test_every_option_has_words_and_a_variable_of_its_own() -> None:
    variables = [option.variable for option in OPTIONS.values() if not option.argument]
    assert len(set(variables)) == len(variables)
    assert all(option.help.endswith((".", "with.")) for option in OPTIONS.values())


def test_the_documentation_has_the_table() -> None:
    text = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text()
    rows = []
    for option in OPTIONS.values():
        variable = f"`{option.variable}`" if option.variable else "–"
        choices = f" One of {', '.join(option.choices)}." if option.choices else ""
        rows.append(f"| `{option.key}` | {variable} | {option.default_shown or '–'} | {option.help}{choices} |")
    assert [line for line in text.splitlines() if line.startswith("| `")] == rows


VALUES: dict[str, tuple[object, str, object]] = {  # in a file, as text, what it means
    "branch": ("dev", "dev", "dev"),
    "at": ("v1", "v1", "v1"),
    "refresh": (2.5, "2.5", 2.5),
    "drain_timeout": ("2m", "2m", 120.0),
    "store_timeout": (5, "5", 5.0),
    "cache_dir": ("/c", "/c", Path("/c")),
    "cache_size": ("1GiB", "1GiB", 2**30),
    "uid": (5, "5", 5),
    "gid": (0, "0", 0),
    "umask": ("027", "027", 0o27),
    "compression": ("small", "small", "small"),
    "passphrase_file": ("/p", "/p", Path("/p")),
    "passphrase_command": ("echo x", "echo x", "echo x"),
    "key_file": ("/k", "/k", Path("/k")),
    "verify_with": (["/a", "/b"], "/a,/b", ("/a", "/b")),
    "allow_source": (["/a", "s3://b"], "/a,s3://b", ("/a", "s3://b")),
    "sign_with": ("/s", "/s", Path("/s")),
    "session": ("native", "native", "native"),
    "fuse_options": (["noatime", "max_read=4096"], "noatime,max_read=4096", ("noatime", "max_read=4096")),
    "metrics": ("127.0.0.1:9101", "127.0.0.1:9101", "127.0.0.1:9101"),
    "log_file": ("/l", "/l", Path("/l")),
}
SWITCHES = [name for name, option in OPTIONS.items() if option.switch]


def test_the_samples_cover_the_table() -> None:
    assert VALUES.keys() | set(SWITCHES) == {name for name, option in OPTIONS.items() if not option.argument}


@pytest.mark.parametrize("name", [*VALUES, *SWITCHES])
def test_each_option_means_the_same_in_a_file_and_in_the_environment(tmp_path: Path, name: str) -> None:
    option = OPTIONS[name]
    in_file, text, meant = VALUES.get(name, (not option.default, "true", True))
    found = files.read(write(tmp_path, f"\n{option.key} = {json.dumps(in_file)}\n"))
    from_file = resolve({}, {}, found)
    from_environment = resolve({}, {str(option.variable): text}, None)
    assert getattr(from_file.settings, name) == getattr(from_environment.settings, name) == meant
    assert (from_file.origins[name].source, from_file.origins[name].where) == ("file", f"{found.path}:2")
    assert (from_environment.origins[name].source, from_environment.origins[name].where) == ("env", option.variable)
    others = OPTIONS.keys() - {name}
    assert all(from_file.origins[other].source == "default" for other in others)
    assert all(getattr(from_file.settings, other) == OPTIONS[other].default for other in others)
    # What is shown can be written again.
    assert option.value_of_text(option.shown(meant)) == meant


# -- precedence -----------------------------------------------------------------------------------------------------


@given(st.sets(st.sampled_from(["flag", "env", "file"])))
def test_flag_before_environment_before_file_before_default(tmp_path_factory: Any, sources: set[str]) -> None:
    tmp_path = tmp_path_factory.mktemp("a")
    file = files.read(write(tmp_path, "refresh = 3")) if "file" in sources else None
    found = resolve(
        {"refresh": Given(1.5, "--refresh")} if "flag" in sources else {},
        {"MODELFS_REFRESH": "2"} if "env" in sources else {},
        file,
    )
    first = next((source for source in ("flag", "env", "file") if source in sources), "default")
    values = {"flag": 1.5, "env": 2.0, "file": 3.0, "default": Settings().refresh}
    assert found.origins["refresh"].source == first
    assert found.settings.refresh == values[first]


def test_what_opens_a_store_is_one_choice(tmp_path: Path) -> None:
    file = files.read(write(tmp_path, 'key-file = "/from/file"'))
    found = resolve({}, {"MODELFS_PASSPHRASE_FILE": "/from/env"}, file)
    assert (found.settings.passphrase_file, found.settings.key_file) == (Path("/from/env"), None)
    assert resolve({}, {}, file).settings.key_file == Path("/from/file")
    both = {"MODELFS_PASSPHRASE_FILE": "/a", "MODELFS_KEY_FILE": "/b"}
    with pytest.raises(UsageError, match="MODELFS_PASSPHRASE_FILE and MODELFS_KEY_FILE: one of them"):
        resolve({}, both, file)


def test_variables_are_named_when_they_are_wrong_and_ignored_when_they_do_not_matter() -> None:
    environment = {"MODELFS_CACHE_SIZE": "lots"}
    with pytest.raises(UsageError, match=r"^MODELFS_CACHE_SIZE: not a size: 'lots'"):
        resolve({}, environment, None)
    assert resolve({}, environment, None, ["key_file"]).settings == Settings()
    assert resolve({}, {"MODELFS_CACHE_SIZE": "", "MODELFS_STORE": "/s"}, None).settings == Settings()


def test_history_cannot_be_written() -> None:
    for wrong in (Settings(at="v1", write_back=True), Settings(at="v1", single_writer=True)):
        with pytest.raises(UsageError, match="history"):
            check_together(wrong)
    check_together(Settings(at="v1"))


# -- files ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('refresh = "soon"', "FILE:1: refresh: not a duration: 'soon'"),
        ("\n# a comment\nrefresh = -1", "FILE:3: refresh: a number >= 0.0 is expected, not '-1'"),
        ("refresh = inf", "FILE:1: refresh: not a duration"),
        ("store-timeout = 0", "FILE:1: store-timeout: a number >= 1.0 is expected, not '0'"),
        ("read-only = 1", "FILE:1: read-only: true or false is expected, not '1'"),
        ('read-only = "true"', "FILE:1: read-only: true or false is expected, not 'true'"),
        ("umask = 22", 'FILE:1: umask: not an octal mode in quotes, as in "027"'),
        ('umask = "9"', "FILE:1: umask: not an octal mode"),
        ('uid = "me"', "FILE:1: uid: a whole number is expected, not 'me'"),
        ("cache-dir = 5", "FILE:1: cache-dir: a path is expected, not '5'"),
        ("cache-dir = ''", "FILE:1: cache-dir: a path is expected, not ''"),
        ("branch = 5", "FILE:1: branch: text is expected"),
        (f"uid = {10**30}", "FILE:1: uid: "),
        (f"refresh = {10**400}", "FILE:1: refresh: "),
        ("uid = true", "FILE:1: uid: a whole number is expected, not 'True'"),
        ('compression = "tiny"', "FILE:1: compression: one of none, fast, balanced, small is expected, not 'tiny'"),
        ('verify-with = "one"', "FILE:1: verify-with: a list is expected, not 'one'"),
        ("verify-with = [\n 'ed25519:a',\n 5]\n", "FILE:1: verify-with: text is expected, not "),
        ("a = 1", "FILE:1: a: there is no such option"),
        ('branch = """\na"""\nrefesh = 1', "FILE:3: refesh: there is no such option (did you mean refresh?)"),
        ("[mount]\nrefresh = 1", "FILE:1: mount: there is no such option"),
        ("cache.size = 1", "FILE:1: cache: there is no such option"),
        ('cache_size = "1GB"', "FILE:1: cache_size: there is no such option (did you mean cache-size?)"),
        ("refresh = 1\nrefresh = 2", "FILE:2: Cannot overwrite a value"),
        ("refresh = 1\nbranch = 'x", "FILE:2: "),
        ("refresh", "FILE:1: "),
        ('branch = "a', "FILE:1: "),
        ('store = "models"', "FILE:1: store: a path that begins with / or ~ is expected, not 'models'"),
        ('store = "@other"', "FILE:1: store: a directory or a URL is expected"),
        ('mountpoint = "here"', "FILE:1: mountpoint: a path that begins with / or ~"),
        ('allow-source = ["keys"]', "FILE:1: allow-source: a path that begins with / or ~"),
        ('verify-with = ["keys"]', "FILE:1: verify-with: a path that begins with / or ~"),
        ('fuse-options = ["uid=5"]', "FILE:1: fuse-options: unknown mount option 'uid=5'"),
        ('fuse-options = ["noatime,suid"]', "FILE:1: fuse-options: unknown mount option"),
        ('passphrase = "hunter2"', "FILE:1: passphrase: there is no such option"),
    ],
)
def test_a_mistake_is_found_by_file_line_and_key(tmp_path: Path, text: str, line: str) -> None:
    said = refused(tmp_path, text)
    assert said.startswith(line)
    assert "\n" not in said
    assert "hunter2" not in said


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        files.read(tmp_path / "none.toml")
    with pytest.raises(UsageError, match="Is a directory"):
        files.read(tmp_path)
    (tmp_path / "b.toml").write_bytes(b"\xff")
    with pytest.raises(UsageError, match="not UTF-8"):
        files.read(tmp_path / "b.toml")
    with pytest.raises(UsageError, match="no configuration"):
        files.read(write(tmp_path, "#" * 70_000))
    with pytest.raises(UsageError, match="not a file"):
        files.read(Path("/dev/null"))


def test_a_file_that_anybody_may_change_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, 'passphrase-command = "rm -rf"')
    path.chmod(0o666)
    with pytest.raises(UsageError, match="anybody may change this file"):
        files.read(path)
    path.chmod(0o664)
    assert files.read(path).values == {"passphrase_command": "rm -rf"}


_LINES = st.lists(
    st.sampled_from(
        [
            "", "# a comment = 1", "   ", "refresh = 2 # so", 'branch = """', "x = 1", '"""', "verify-with = [",
            "'/a', # [", "]", "uid = 7", '"read-only" = true', "debug = false", "gid = 1\r",
        ]
    ),
    max_size=14,
)  # fmt: skip


@given(_LINES)
def test_lines_of_any_file_are_where_its_keys_are(tmp_path_factory: Any, lines: list[str]) -> None:
    import tomllib

    path = write(tmp_path_factory.mktemp("a"), "\n".join(lines))
    try:
        parsed = tomllib.loads(path.read_text())
        found = files.read(path)
    except (tomllib.TOMLDecodeError, UsageError):
        return
    assert {BY_KEY[key].name for key in parsed} == found.values.keys() == found.lines.keys()
    for name, line in found.lines.items():
        assert lines[line - 1].lstrip().strip('"').startswith(OPTIONS[name].key)


def test_names_and_their_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(files, "SYSTEM", tmp_path / "etc")
    for place in ("home/modelfs", "etc"):
        (tmp_path / place).mkdir(parents=True)
    (tmp_path / "etc/a.toml").touch()
    (tmp_path / "etc/.b.toml").touch()
    assert files.find("a") == tmp_path / "etc/a.toml"
    (tmp_path / "home/modelfs/a.toml").touch()
    assert files.find("a") == tmp_path / "home/modelfs/a.toml"
    assert files.names() == ["a"]
    for wrong in ("", "/etc/passwd", "../a", "a b", "-a", ".b", "a" * 65):
        with pytest.raises(UsageError, match="no name of a mount"):
            files.find(wrong)
    with pytest.raises(UsageError, match=r"home/modelfs/b\.toml nor .*etc/b\.toml"):
        files.find("b")


def test_the_example_is_right_and_has_every_option(tmp_path: Path) -> None:
    text = example()
    assert text == (Path(__file__).parents[2] / "systemd" / "NAME.toml").read_text()
    as_it_is = files.read(write(tmp_path, text))
    assert as_it_is.values.keys() == {"store", "mountpoint"}
    all_of_it = files.read(write(tmp_path, "\n".join(_shown(line) for line in text.split("\n"))))
    assert all_of_it.values.keys() == OPTIONS.keys()
    for name in ("branch", "refresh", "drain_timeout", "store_timeout"):
        assert all_of_it.values[name] == OPTIONS[name].default
    assert all_of_it.values["cache_size"] == limits.CACHE_SIZE_DEFAULT


def _shown(line: str) -> str:
    return line.removeprefix("#") if line.startswith("#") and not line.startswith("# ") else line


# -- words of mount(8), sizes ---------------------------------------------------------------------------------------


def _split(*groups: str) -> tuple[dict[str, str], list[str]]:
    def keys(wanted: Any) -> frozenset[str]:
        return frozenset(option.key for option in OPTIONS.values() if wanted(option) and not option.argument)

    def is_switch(option: Option) -> bool:
        return option.switch

    return split_words(groups, keys(is_switch), keys(lambda option: not option.switch))


def test_words_of_mount() -> None:
    ours, passed = _split("rw,_netdev,nofail,x-systemd.automount,noatime,max_read=1", "uid=5,cache_size=1GB,write-back")
    assert ours == {"uid": "5", "cache-size": "1GB", "write-back": "true"}
    assert passed == ["noatime", "max_read=1"]
    assert _split("ro,allow_other=false")[0] == {"read-only": "true", "allow-other": "false"}
    for wrong in ("frobnicate", "max_read", "store=/x", "noatime=1"):
        with pytest.raises(UsageError, match="unknown mount option"):
            _split(wrong)
    with pytest.raises(UsageError, match="needs a value"):
        _split("uid")


@given(st.integers(0, 2**53))
def test_sizes_come_back(count: int) -> None:
    assert parse_size(size_text(count)) == count
