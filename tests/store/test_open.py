"""URLs: which store they name, what is refused, what is never shown."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import pytest
from servers import S3Server, SftpServer

from modelfs.errors import NotFoundError, PermanentError, ReadOnlyError, UnreachableError, UsageError
from modelfs.store import open as open_module
from modelfs.store.open import open_store, redact_url


def test_paths_and_file_urls_name_the_same_directory(tmp_path: Path) -> None:
    directory = tmp_path / "a b"
    open_store(str(directory), create=True).put("x", b"1")
    assert open_store(f"file://{str(directory).replace(' ', '%20')}").get("x") == b"1"
    assert open_store(str(directory)).local_root == directory


@pytest.mark.parametrize("url", ["", "file://host/x", "file://", "s3://", "nosuch://x/y", "s3://bucket/p?secret=1"])
def test_nonsense_is_one_clear_line(url: str) -> None:
    with pytest.raises(UsageError) as failure:
        open_store(url)
    assert "\n" not in str(failure.value)


def test_missing_directory_and_file_in_its_place(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such directory"):
        open_store(str(tmp_path / "no"))
    (tmp_path / "f").touch()
    with pytest.raises(UsageError, match="not a directory"):
        open_store(str(tmp_path / "f"))


def test_redacted() -> None:
    assert redact_url("sftp://me:secret@host:22/x?token=secret") == "sftp://me@host:22/x"
    assert redact_url("/plain/path") == "/plain/path"
    assert "secret" not in redact_url("s3://key:secret@bucket/p")


def test_a_store_s_url_shows_no_credentials(s3_server: S3Server, s3_bucket: str) -> None:
    store = open_store(f"{s3_bucket}/p?endpoint={s3_server.endpoint}&region=us-east-1")
    assert store.url == f"{s3_bucket}/p"


def test_wrong_s3_credentials(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(UnreachableError, match="credentials") as failure:
        open_store(s3_bucket)
    assert "wrong" not in str(failure.value)


def test_missing_bucket_reads_as_no_store_and_cannot_be_written(s3_server: S3Server, s3_bucket: str) -> None:
    store = open_store(s3_bucket + "-not")
    with pytest.raises(NotFoundError):
        store.get("format.json")
    with pytest.raises(PermanentError, match="bucket does not exist"):
        store.put("x", b"1")


def test_unreachable_and_silent_endpoints(silent_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_module.limits, "STORE_OPEN_TIMEOUT", 1.0)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    with pytest.raises(UnreachableError, match=r"s3://bucket"):
        open_store(f"s3://bucket/p?endpoint=http://127.0.0.1:{silent_port}&region=x")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with pytest.raises(UnreachableError):
        open_store(f"s3://bucket/p?endpoint=http://127.0.0.1:{port}&region=x")
    with pytest.raises(UnreachableError):
        open_store(f"sftp://me@127.0.0.1:{port}/x")


def test_sftp_host_that_nobody_vouches_for(
    sftp_server: SftpServer, sftp_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".ssh").mkdir()
    key = Path(os.environ["HOME"]) / ".ssh" / "id_ed25519"
    (tmp_path / ".ssh" / "config").write_text(f"Host *\n  IdentityFile {key}\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(UsageError, match="known_hosts"):
        open_store(sftp_url)


def test_sftp_password_in_the_url_is_refused_and_not_repeated() -> None:
    with pytest.raises(UsageError) as failure:
        open_store("sftp://me:hunter2@127.0.0.1/x")
    assert "hunter2" not in str(failure.value)


def test_sftp_survives_a_lost_connection(sftp_url: str) -> None:
    store = open_store(sftp_url)
    store.put("a", b"1")
    lent = store._inner._idle.get_nowait()  # type: ignore[attr-defined]
    lent.client.get_transport().sock.shutdown(socket.SHUT_RDWR)
    store._inner._idle.put(lent)  # type: ignore[attr-defined]
    assert store.get("a") == b"1"
    assert store.statistics().retries >= 1


def test_http_is_read_only(tmp_path: Path) -> None:
    from functools import partial
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

    (tmp_path / "format.json").write_bytes(b"{}")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(tmp_path)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        store = open_store(f"http://127.0.0.1:{server.server_port}")
        assert store.get("format.json") == b"{}"
        assert store.size("nothing") is None
        with pytest.raises(ReadOnlyError):
            store.put("x", b"1")
        assert not store.properties.writable
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
