"""The unit under a real systemd: a manager of a user, in namespaces of its own, with the limits of the machine's unit.

It starts when the mount answers, ends a daemon whose loop is stuck, starts it anew over the dead mount, and stops it
with everything in the store. The mount, the manager and all it started end with the process id namespace.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from namespaces import unshared

ROOT = Path(__file__).parents[2]
MANAGER = Path("/lib/systemd/systemd")

SCRIPT = """
set -e
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/system   # sd_booted(3): a manager of a user wants to see one of the machine
{manager} --user --log-target=console --unit=modelfs@team.service > {here}/manager.log 2>&1 &
wait_for() {{
    for i in $(seq 150); do if sh -c "$1"; then return; fi; sleep 0.2; done
    echo "not reached: $1"; exit 1
}}
main() {{ systemctl --user show -p MainPID --value modelfs@team; }}
wait_for '[ "$(systemctl --user is-active modelfs@team 2>&1)" = active ]'
grep -q ' {here}/mnt fuse.modelfs' /proc/mounts && echo active means mounted
systemctl --user show -p StatusText modelfs@team
echo acknowledged > {here}/mnt/f
first=$(main)
grep -E 'NoNewPrivs|Seccomp:|CapBnd' /proc/$first/status
kill -STOP $first
wait_for "[ ! -e /proc/$first ] || grep -q '^State:.*Z' /proc/$first/status"
wait_for '[ "$(systemctl --user is-active modelfs@team)" = active ]'
[ "$(main)" != $first ] && echo another process
cat {here}/mnt/f
echo after > {here}/mnt/g
systemctl --user stop modelfs@team
systemctl --user show -p Result -p ExecMainStatus modelfs@team
grep -q ' {here}/mnt ' /proc/mounts || echo unmounted
systemctl --user exit
"""


@pytest.mark.skipif(os.geteuid() != 0 or not MANAGER.exists(), reason="takes root and an installed systemd")
def test_the_unit_lives_through_a_stuck_daemon(tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("run", "mnt", "bin"):
        (tmp_path / name).mkdir(mode=0o700)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    program = tmp_path / "bin" / "modelfs"
    program.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m modelfs "$@"\n')
    program.chmod(0o755)
    subprocess.run([program, "service", "install", "team", "--user"], timeout=60, check=True, stdout=subprocess.PIPE)
    (tmp_path / "config/modelfs/team.toml").write_text(f'store = "{store}"\nmountpoint = "{tmp_path}/mnt"\n')
    drop_in = tmp_path / "config/systemd/user/modelfs@team.service.d" / "limits.conf"
    drop_in.parent.mkdir()
    lines = (ROOT / "systemd" / "modelfs@.service").read_text().splitlines()
    first, last = lines.index("LimitNOFILE=65536"), lines.index("SystemCallErrorNumber=EPERM")
    log = tmp_path / "mount.log"
    more = ["WatchdogSec=2", "RestartSec=1", "TimeoutAbortSec=2", f"StandardError=append:{log}"]
    moved = [f"Environment={name}={os.environ[name]}" for name in ("XDG_STATE_HOME", "XDG_CACHE_HOME")]
    drop_in.write_text("\n".join(["[Service]", *lines[first : last + 1], *more, *moved, ""]))
    script = SCRIPT.format(manager=MANAGER, here=tmp_path)
    done = subprocess.run(
        unshared("sh", "-c", script, flags=("--pid", "--fork", "--kill-child", "--mount-proc")),
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    told = (
        f"{done.stdout}{done.stderr}{(tmp_path / 'manager.log').read_text()}{log.read_text() if log.exists() else ''}"
    )
    assert done.returncode == 0, told
    assert "active means mounted" in done.stdout, told
    assert f"StatusText=main@1 of {store}" in done.stdout
    assert "NoNewPrivs:\t1\nSeccomp:\t2" in done.stdout
    assert "another process\nacknowledged\n" in done.stdout, told
    assert "Result=success" in done.stdout
    assert "ExecMainStatus=0" in done.stdout
    assert "unmounted" in done.stdout
    assert "the daemon of an earlier mount is gone" in log.read_text()
    listed = subprocess.run([program, "ls", store], capture_output=True, text=True, timeout=60, check=True)
    assert listed.stdout.split() == ["f", "g"]
