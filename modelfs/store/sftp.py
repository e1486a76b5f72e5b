"""SFTP: one SSH connection per lent file system, host keys checked, renames that are atomic.

Of the two renames that OpenSSH offers, the plain one (link, then unlink) fails when the target is there and so
creates exclusively; ``posix-rename@openssh.com`` replaces. Host keys must be in the user's or the system's known
hosts: an unknown host is refused. ``~/.ssh/config`` is obeyed for host name, port, user, key and known hosts.
TCP_NODELAY is set because without it a 4 MiB write takes seconds.
"""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, unquote

from fsspec import AbstractFileSystem

from modelfs import limits
from modelfs.errors import AlreadyExistsError, ExtraMissingError, PermissionDeniedError, UsageError

try:
    import paramiko
    from fsspec.implementations.sftp import SFTPFileSystem
except ImportError as missing:
    raise ExtraMissingError("sftp:// needs paramiko: pip install 'modelfs[sftp]'") from missing


class _CheckedSftp(SFTPFileSystem):  # type: ignore[misc]  # fsspec has no types
    """fsspec's SFTP with known hosts, timeouts and TCP_NODELAY."""

    cachable = False

    def _connect(self) -> None:
        self.client = paramiko.SSHClient()
        self.client.load_system_host_keys()
        known_hosts, timeout = self.ssh_kwargs.pop("known_hosts"), self.ssh_kwargs.pop("timeout")
        for path in (Path("/etc/ssh/ssh_known_hosts"), *known_hosts):
            if path.is_file():
                self.client.load_system_host_keys(str(path))
        self.client.set_missing_host_key_policy(paramiko.RejectPolicy())
        self.client.connect(
            self.host,
            **self.ssh_kwargs,
            timeout=min(timeout, limits.STORE_CONNECT_TIMEOUT),
            banner_timeout=min(timeout, limits.STORE_CONNECT_TIMEOUT),
            auth_timeout=min(timeout, limits.STORE_CONNECT_TIMEOUT),
            channel_timeout=min(timeout, limits.STORE_CONNECT_TIMEOUT),
        )
        transport = self.client.get_transport()
        transport.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        transport.set_keepalive(limits.SSH_KEEPALIVE)
        self.ftp = self.client.open_sftp()
        self.ftp.get_channel().settimeout(timeout)


def _arguments(parts: SplitResult) -> dict[str, Any]:
    """What the URL and ``~/.ssh/config`` say about the host; the URL wins."""
    config_file = Path("~/.ssh/config").expanduser()
    config = paramiko.SSHConfig.from_path(str(config_file)) if config_file.is_file() else paramiko.SSHConfig()
    found = config.lookup(parts.hostname or "")
    arguments: dict[str, Any] = {
        "host": found.get("hostname", parts.hostname),
        "known_hosts": [Path(name).expanduser() for name in found.get("userknownhostsfile", "").split()],
    }
    if port := parts.port or int(found.get("port", 0)):
        arguments["port"] = port
    if user := unquote(parts.username or "") or found.get("user"):
        arguments["username"] = user
    if "identityfile" in found:
        arguments["key_filename"] = [str(Path(name).expanduser()) for name in found["identityfile"]]
    return arguments


def connect(parts: SplitResult, timeout: float) -> AbstractFileSystem:
    """A connected file system for the host, user and port of a URL, which waits ``timeout`` seconds for an answer.
    UsageError for what the user has to mend."""
    if parts.password:
        raise UsageError(f"{parts.scheme}://{parts.hostname}: no password in a URL; use a key or an SSH agent")
    try:
        return _CheckedSftp(**_arguments(parts), timeout=timeout)
    except paramiko.BadHostKeyException as error:
        raise UsageError(f"the host key of {parts.hostname} is not the one in known_hosts") from error
    except (paramiko.AuthenticationException, paramiko.PasswordRequiredException) as error:
        raise PermissionDeniedError(f"{parts.hostname} refuses the login: {error}") from error
    except paramiko.SSHException as error:
        if "not found in known_hosts" in str(error):
            raise UsageError(f"{parts.hostname} is not in known_hosts; `ssh` to it once to check its key") from error
        if "No authentication methods" in str(error):
            raise PermissionDeniedError(f"no SSH key or agent to log in to {parts.hostname} with") from error
        raise


class SftpNaming:
    """Names by the two renames of SFTP."""

    def replace(self, fs: AbstractFileSystem, source: str, target: str) -> None:
        fs.ftp.posix_rename(source, target)

    def create(self, fs: AbstractFileSystem, source: str, target: str) -> None:
        try:
            fs.ftp.rename(source, target)
        except OSError as error:
            # SFTP has one code for every failure; only a look tells a lost race from a broken disk.
            if not fs.exists(target):
                raise
            raise AlreadyExistsError(f"{target} exists", target) from error
