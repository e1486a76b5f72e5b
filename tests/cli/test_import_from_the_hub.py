"""import hf://…: against a server that speaks the Hub's interface, as the Hub itself cannot be had in tests."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hubserver import Hub, Repository, Version, start_hub
from running import Run

from modelfs.errors import NotFoundError, PermanentError, ReadOnlyError, UsageError
from modelfs.store.open import open_backend

NAMES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH", "HF_HOME", "HF_HUB_DISABLE_IMPLICIT_TOKEN")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A model with two revisions, a data set, and the environment that leads there."""
    for name in (*NAMES, "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg-cache"))
    files = {
        "config.json": b"{}",
        "model.safetensors": os.urandom(9_500_000),
        "a directory/tëst~1.bin": os.urandom(3000),
        "a directory/empty": b"",
    }
    changed = dict.fromkeys(files, "2024-02-03T04:05:06.000Z")
    first = Version(files, changed)
    second = Version(
        {**files, "config.json": b'{"x":1}'}, {**changed, "config.json": "2025-01-01T00:00:00.000Z"}
    )  # what else is there is as it was
    with start_hub() as made:
        made.repositories["models/org/llama"] = Repository({"main": second, "v1": first, "refs/pr/7": first})
        made.repositories["datasets/org/words"] = Repository({"main": Version({"w.txt": b"a b"}, {"w.txt": ""})})
        monkeypatch.setenv("HF_ENDPOINT", made.endpoint)
        yield made


@pytest.fixture
def run(in_process: Run) -> Run:
    """Commands beside a store."""
    in_process("init", "store")
    return in_process


def _newest(run: Run) -> str:
    message = run("log", "store", "--json").json[0]["message"]
    assert isinstance(message, str)
    return message


def test_a_model(run: Run, hub: Hub, tmp_path: Path) -> None:
    versions = hub.repositories["models/org/llama"].versions
    done = run("import", "hf://org/llama@v1", "store", "llama", "--json").json
    assert (done["files"], done["left_out"]) == (4, [])
    assert _newest(run) == f"hf://org/llama@{versions['v1'].sha}"
    run("get", "store", "llama", "back")
    for name, data in versions["v1"].files.items():
        assert (tmp_path / "back" / name).read_bytes() == data
        assert (tmp_path / "back" / name).stat().st_mtime == 1706933106
    # The next revision: only what was changed there is read.
    again = run("import", "hf://org/llama", "store", "llama", "-m", "new", "--json").json
    assert (again["files"], again["same"], again["bytes"]) == (1, 3, 7)
    assert _newest(run) == f"new (hf://org/llama@{versions['main'].sha})"
    assert not hub.leaks


def test_links_into_the_hub(run: Run, hub: Hub, tmp_path: Path) -> None:
    """They name the commit, so a revision that moves on takes nothing away."""
    first = hub.repositories["models/org/llama"].versions["v1"]
    pinned = f"hf://org/llama@{first.sha}"
    done = run("import", "hf://org/llama@v1", "store", "llama", "--link", "--json").json
    assert (done["links_to"], done["sent"] < 5000) == ([pinned], True)
    assert _newest(run) == f"linked to {pinned}"
    run("get", "store", "llama/model.safetensors", "refused", "--allow-source", "hf://org/other", code=2)
    run("get", "store", "llama", "back", "--allow-source", pinned)
    for name, data in first.files.items():
        assert (tmp_path / "back" / name).read_bytes() == data
    assert run("fsck", "store", "--allow-source", pinned, "--json").json["links"]["refused"] == 0
    assert run("import", "hf://org/llama@v1", "store", "llama", "--link", "--json").json["files"] == 0
    assert not hub.leaks


def test_what_the_hubs_own_library_downloads(run: Run, hub: Hub, tmp_path: Path) -> None:
    """The server is like the Hub as far as that library can tell, and its cache comes in as the repository does."""
    home = {"HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    program = "import huggingface_hub; print(huggingface_hub.snapshot_download('org/llama', revision='v1'))"
    command = [sys.executable, "-c", program]
    environment = {**os.environ, **home}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    run("import", "hf://org/llama@v1", "store", "direct")
    run("import", tmp_path / "hf/hub/models--org--llama", "store", "cache", "--revision", "v1")
    run("import", done.stdout.strip(), "store", "snapshot")
    listed = [run("ls", "store", "-R", name).out.splitlines() for name in ("direct", "cache", "snapshot")]
    assert listed[0] == listed[1] == listed[2]
    files = hub.repositories["models/org/llama"].versions["v1"].files
    assert set(files) < set(listed[0])
    run("get", "store", "cache", "back")
    assert all((tmp_path / "back" / name).read_bytes() == data for name, data in files.items())


def test_parts_and_other_kinds(run: Run, hub: Hub, tmp_path: Path) -> None:
    run("import", "hf://org/llama@refs/pr/7/a directory", "store", "part")
    assert run("ls", "store", "part").out.split() == ["empty", "tëst~1.bin"]
    run("import", "hf://org/llama@refs%2Fpr%2F7/a%20directory/t%C3%ABst~1.bin", "store", "one")
    run("get", "store", "one", "one")
    version = hub.repositories["models/org/llama"].versions["v1"]
    assert (tmp_path / "one").read_bytes() == version.files["a directory/tëst~1.bin"]
    assert version.sha in _newest(run)
    run("import", "hf://datasets/org/words/w.txt", "store", "words/")
    assert run("ls", "store", "words").out.split() == ["w.txt"]
    hub.moved["models/old/name"] = "models/org/llama"
    run("import", "hf://old/name", "store", "moved")
    run("import", "hf://old/name/model.safetensors", "store", "alone")
    assert run("stat", "store", "alone", "--json").json["size"] == 9_500_000


def test_a_hub_that_fails_for_a_while(run: Run, hub: Hub) -> None:
    hub.failures = 3
    assert run("import", "hf://org/llama", "store", "--json").json["files"] == 4
    assert hub.failures == 0


@pytest.mark.parametrize("place", ["HF_TOKEN", "HF_TOKEN_PATH", "HF_HOME", "XDG_CACHE_HOME"])
def test_a_token_is_found_and_goes_to_the_hub_only(
    hub: Hub, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = hub.repositories["models/org/llama"]
    repository.private = repository.gated = True
    (tmp_path / "huggingface").mkdir()
    (tmp_path / "huggingface" / "token").write_text(f"{hub.token}\n")
    paths = {"HF_TOKEN_PATH": "huggingface/token", "HF_HOME": "huggingface", "XDG_CACHE_HOME": ""}
    monkeypatch.setenv(place, str(tmp_path / paths[place]) if place in paths else hub.token)
    store = open_backend("hf://org/llama")
    assert len(store.get_range("model.safetensors", 5, 100)) == 100
    assert not hub.leaks
    monkeypatch.setenv("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")
    with pytest.raises(UsageError, match="no such repository"):
        open_backend("hf://org/llama").size("config.json")


def test_what_can_be_wrong(run: Run, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(url: str) -> str:
        err = run("import", url, "store", code=2).err
        assert err.startswith("modelfs: ")
        assert err.count("\n") == 1, err
        return err

    assert "no such repository, or it is private (asked without a token: HF_TOKEN" in refused("hf://org/nothing")
    assert "no revision v9" in refused("hf://org/llama@v9")
    assert "nothing at" in refused("hf://org/llama/no/such/file")
    for url in ("hf://", "hf://org", "hf://org/llama@", "hf://../llama", "hf://org/na me"):
        assert "hf://" in refused(url)
    assert "--revision" in run("import", "hf://org/llama", "store", "--revision", "v1", code=2).err
    hub.repositories["models/org/llama"].gated = True
    assert f"access has to be asked for at {hub.endpoint}/org/llama" in refused("hf://org/llama")
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    said = refused("hf://org/llama")
    assert "the token is refused" in said
    assert "hf_wrong" not in said
    monkeypatch.delenv("HF_TOKEN")
    hub.elsewhere = "http://127.0.0.2:9"
    assert "goes on at another server" in run("import", "hf://org/llama", "store", code=1).err
    for hub.strange in ("<html>", "{}", "[1]", '[{"type":"file"}]', '[{"type":"file","path":"a","size":"x"}]'):
        assert "does not answer as the Hub does" in refused("hf://org/llama")
    monkeypatch.setenv("HF_ENDPOINT", "ftp://x")
    assert "HF_ENDPOINT" in refused("hf://org/llama")
    assert not hub.leaks


def test_as_a_store(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_backend("hf://org/llama@v1")
    data = hub.repositories["models/org/llama"].versions["v1"].files["model.safetensors"]
    assert store.url == "hf://org/llama@v1"
    assert store.size("model.safetensors") == len(data)
    assert store.url.endswith(hub.repositories["models/org/llama"].versions["v1"].sha)
    assert store.get("model.safetensors") == data
    assert store.get_range("model.safetensors", len(data) - 5, 100) == data[-5:]
    assert store.get_range("model.safetensors", len(data), 1) == b""
    assert store.get_range("a directory/empty", 0, 10) == b""
    assert store.size("nothing") is None
    with pytest.raises(NotFoundError):
        store.get("nothing")
    for change in (lambda: store.put("x", b""), lambda: store.put_if_absent("x", b""), lambda: store.delete("x")):
        with pytest.raises(ReadOnlyError):
            change()
    store.close()


def test_a_proxy_that_the_environment_names_is_used(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", hub.endpoint)  # a proxy is asked for whole addresses
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.invalid")
    assert open_backend("hf://org/llama").size("config.json") == 7
    assert hub.asked[0] == "GET http://hub.invalid/api/models/org/llama/revision/main"


def test_a_server_that_knows_no_ranges(hub: Hub) -> None:
    hub.ranges = False
    store = open_backend("hf://org/llama")
    assert store.get_range("config.json", 1, 100) == b'"x":1}'
    with pytest.raises(PermanentError, match="ranges"):  # it would be all 9 MB for a part
        store.get_range("model.safetensors", 1, 100)
