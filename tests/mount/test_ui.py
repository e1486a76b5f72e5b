"""The page about real mounts and stores, asked as browsers and others ask it."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from browsing import Browser, browsing, chromium
from mounting import Machine, eventually
from safetensors.numpy import save_file

from modelfs.config import Secret
from modelfs.repository.format import Format
from modelfs.repository.keyslots import encrypted
from modelfs.repository.repository import Repository
from modelfs.store.open import open_store

MIB = 1 << 20
NASTY = "<script>alert(1)<!--&\"'\n\x1b[31m\u202e"


@pytest.fixture
def browser(mnt: Path) -> Iterator[Browser]:
    with browsing() as made:
        yield made


def store_page(browser: Browser) -> str:
    """The address of the only store's history."""
    (found,) = {link for link in browser.get("/").links if link.startswith("/store/") and link.count("/") == 2}
    return found


def weights(seed: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {f"layer.{i}.weight": random.standard_normal((512, 512), np.float32) for i in range(4)}


def test_what_a_mount_does(browser: Browser, mnt: Path) -> None:
    (mnt / "f").write_bytes(os.urandom(3 * MIB))
    eventually(lambda: "main@2" in browser.get("/").text, "the commit is on the page")
    text = browser.get("/").text
    assert f"{mnt} mounted" in text
    assert "3.1 MB" in text
    page = browser.get(f"/mount?at={mnt}")
    assert "put_if_absent" in page.text
    eventually(lambda: 'class="line line1" d="M' in browser.get(f"/mount?at={mnt}").body, "throughput is drawn")
    (told,) = json.loads(browser.get("/status.json").body)
    assert told["mountpoint"] == str(mnt)
    assert told["state"] == "mounted"


def test_history_savings_tensors_and_what_is_here(browser: Browser, machine: Machine, mnt: Path, store: str) -> None:
    first = weights(1)
    save_file(first, mnt / "model.safetensors")
    (mnt / "run").mkdir()
    save_file({**first, "layer.2.weight": weights(2)["layer.2.weight"]}, mnt / "run" / "model.safetensors")
    eventually(lambda: browser.get("/").text.count("nothing") >= 1, "all is in the store")
    history = store_page(browser)
    eventually(lambda: "being found out" not in browser.get(history).text, "all savings are known")
    page = browser.get(history)
    assert "4.2 MB 1.0 MB" in page.text  # the second save: four tensors, one of them new
    newest = next(link for link in page.links if "/commit?ref=" in link)
    assert "run/model.safetensors" in browser.get(newest).text
    files = f"{history}/files"
    assert "model.safetensors" in browser.get(files).text
    file = browser.get(f"{files}?path=run/model.safetensors")
    assert "layer.3.weight F32 512 × 512 1.0 MB" in file.text
    assert "100 %" in file.text
    assert "<title>layer.0.weight: 1.0 MB of 1.0 MB are here</title>" in file.body
    assert "layer.0.weight F32" not in browser.get(f"{files}?path=run/model.safetensors&find=layer.3").text
    cache = browser.get(f"{history}/cache")
    assert "run/model.safetensors" in cache.text
    assert "safetensors, 4 of 4 tensors whole" in cache.text
    assert browser.get(next(link for link in cache.links if "/cached?" in link)).text.count("512 × 512") == 4
    for link in {link for link in (*page.links, *cache.links, *file.links) if link.startswith("/")}:
        browser.get(link)


def test_hostile_names(browser: Browser, mnt: Path) -> None:
    (mnt / NASTY).mkdir()
    (mnt / NASTY / "f").write_bytes(b"x")
    (mnt / os.fsdecode(b"\xff\xfe")).write_bytes(os.urandom(MIB))
    save_file({NASTY: np.zeros(4, np.float32)}, mnt / "t.safetensors")
    os.symlink("<b>'", mnt / "link")
    fd = os.open(mnt, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
    history = store_page(browser)
    seen, waiting = set(), [f"{history}/files", history, f"{history}/cache"]
    while waiting:
        link = waiting.pop()
        seen.add(link)
        page = browser.get(link)
        assert "<script>alert" not in page.body
        assert "\u202e" not in page.body
        waiting += [other for other in page.links if other.startswith(history) and other not in {*seen, *waiting}]
    assert any("%FF%FE" in link for link in seen)
    assert len(seen) > 8


@pytest.fixture
def of_store(store: str) -> Iterator[Browser]:
    """The page of a store that is mounted nowhere."""
    with browsing(store) as made:
        yield made


def test_who_is_refused(of_store: Browser) -> None:
    browser = of_store
    with_token = f"/?token={browser.token}"
    assert browser.raw("/")[0] == 403
    status, headers, _ = browser.raw(with_token)
    assert (status, "HttpOnly" in headers["set-cookie"]) == (200, True)
    assert browser.raw(with_token, headers={"Host": "evil.example"})[0] == 421
    assert browser.raw(with_token, method="POST")[0] == 405
    status, headers, body = browser.raw(with_token, method="HEAD")
    assert (status, body) == (200, b"")
    for address, code in (
        ("/none", 404),
        ("/store/ffffffffffffffff", 404),
        ("/mount?at=/nowhere", 404),
        (f"{store_page(browser)}?from=x", 400),
        (f"{store_page(browser)}?branch=none", 404),
        (f"{store_page(browser)}?branch=../x", 400),
        (f"{store_page(browser)}/commit?ref=main@999", 404),
        (f"{store_page(browser)}/files?path=../../etc/passwd", 404),
        (f"{store_page(browser)}/cached?manifest=00", 400),
        (f"{store_page(browser)}/cached?manifest={'00' * 32}", 404),
        ("/?" + "&".join(["a=1"] * 40), 200),
    ):
        page = browser.get(address, status=code)
        assert "Traceback" not in page.body


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_cleanly_with_connections_open(of_store: Browser, number: signal.Signals) -> None:
    browser = of_store
    with socket.create_connection((browser.host, browser.port)) as idle:
        idle.sendall(b"GET / HTTP/1.1\r\n")
        browser.get("/")
        browser.process.send_signal(number)
        assert browser.process.wait(30) == 0
    assert browser.process.stderr is not None
    assert browser.process.stderr.read() == ""


def test_mounts_that_are_gone(browser: Browser, machine: Machine, mnt: Path, store: str) -> None:
    other = machine.mount(store, "other")
    eventually(lambda: f"{other} mounted" in browser.get("/").text, "the second mount is seen")
    machine.umount(other)
    eventually(lambda: "nothing is mounted there any more" in browser.get("/").text, "it is seen to be gone")
    pid = machine.pid(mnt)
    os.kill(pid, signal.SIGSTOP)
    try:
        eventually(lambda: "not answering" in browser.get("/").text, "the silent daemon", 30)
    finally:
        os.kill(pid, signal.SIGCONT)
    machine.kill(mnt)
    eventually(lambda: "the daemon of the mount died" in browser.get("/").text, "the dead daemon")


def test_nobody_waits_for_the_page(browser: Browser, mnt: Path) -> None:
    """The mount reads and writes while the page is stopped in the middle of whatever it does."""
    (mnt / "f").write_bytes(os.urandom(MIB))
    browser.get(store_page(browser))
    browser.process.send_signal(signal.SIGSTOP)
    try:
        for i in range(20):
            (mnt / f"g{i}").write_bytes(os.urandom(MIB))
            assert len((mnt / f"g{i}").read_bytes()) == MIB
        (mnt / "g0").unlink()
    finally:
        browser.process.send_signal(signal.SIGCONT)
    eventually(lambda: "g19" in browser.get(f"{store_page(browser)}/files").text, "the page goes on")


def test_a_store_that_is_away(browser: Browser, mnt: Path, store: str) -> None:
    (mnt / "f").write_bytes(os.urandom(MIB))
    history = store_page(browser)
    Path(store).rename(f"{store}-away")
    try:
        page = browser.get(f"{history}/files", status=400)
        assert "no such directory" in page.text
        browser.get(f"{history}/cache")
        assert str(mnt) in browser.get("/").text
    finally:
        Path(f"{store}-away").rename(store)
    eventually(lambda: browser.raw(f"{history}/files?token={browser.token}")[0] == 200, "the store is back")


def test_an_encrypted_store(machine: Machine, tmp_path: Path) -> None:
    secret, path = Secret("key-file", os.urandom(32)), machine.directory / "sealed"
    backend = open_store(str(path), create=True)
    Repository.create(backend, *encrypted(Format(), secret, "first"))
    backend.close()
    mnt = machine.mount(str(path), secret=secret)
    save_file(weights(1), mnt / "model.safetensors")
    with browsing() as browser:
        assert "--key-file" in browser.get(store_page(browser), status=403).text
        assert str(mnt) in browser.get("/").text
    (tmp_path / "key").write_bytes(secret.value)
    (tmp_path / "key").chmod(0o600)
    with browsing(path, "--key-file", tmp_path / "key") as browser:
        history = store_page(browser)
        assert "main@2" in browser.get(history).text
        assert "layer.0.weight" in browser.get(f"{history}/files?path=model.safetensors").text
        assert "4 of 4 tensors whole" in browser.get(f"{history}/cache").text


def test_one_mount_and_one_store(machine: Machine, mnt: Path, store: str) -> None:
    other = machine.mount(machine.new_store("another"), "other", cache="other-cache")
    with browsing(mnt) as browser:
        text = browser.get("/").text
        assert f"{mnt} mounted" in text
        assert str(other) not in text
    with browsing(store) as browser:
        text = browser.get("/").text
        assert f"{mnt} mounted" in text
        assert str(other) not in text


def test_a_store_without_a_mount_and_without_a_cache(of_store: Browser) -> None:
    assert "Nothing is mounted" in of_store.get("/").text
    assert "main@1" in of_store.get(store_page(of_store)).text
    assert "not a cache directory" in of_store.get(f"{store_page(of_store)}/cache", status=400).text


def test_in_a_browser(browser: Browser, mnt: Path, tmp_path: Path) -> None:
    """The style sheet and the script are taken, the policy is kept to, and each scheme has colours of its own."""
    save_file(weights(1), mnt / "model.safetensors")
    eventually(lambda: "main@2" in browser.get("/").text, "the commit is on the page")
    done = chromium("--dump-dom", "--virtual-time-budget=6000", browser.url, profile=tmp_path / "profile")
    assert str(mnt) in done.stdout
    assert '<label id="live"><input type="checkbox"' in done.stdout  # the script has shown it
    shots = {}
    for scheme, setting in (("light", 1), ("dark", 0)):
        for width in (1200, 390):
            shot = tmp_path / f"{scheme}-{width}.png"
            address = f"{store_page(browser)}/files?path=model.safetensors&token={browser.token}"
            seen = chromium(
                f"--blink-settings=preferredColorScheme={setting}", f"--window-size={width},900",
                f"--screenshot={shot}", f"http://127.0.0.1:{browser.port}{address}", profile=tmp_path / "profile",
            )  # fmt: skip
            for said in (done.stderr, seen.stderr):
                assert "Content Security Policy" not in said
                assert "Refused to" not in said
            shots[shot.name] = shot.read_bytes()
    assert len(set(shots.values())) == 4
