"""The examples of deploy/: their schemas, their commands, and what they do as far as one machine shows it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from commandlines import parse, sandboxed
from mounting import Machine, eventually
from namespaces import unshared

import modelfs
from modelfs import limits
from modelfs.fuse.mountpoint import mount_table
from modelfs.settings import files
from modelfs.settings.options import Settings

DEPLOY = Path(__file__).parents[2] / "deploy"
IMAGE = f"modelfs:{modelfs.__version__}"
OBJECTS: list[dict[str, Any]] = [
    found for path in sorted((DEPLOY / "kubernetes").glob("*.yaml")) for found in yaml.safe_load_all(path.read_text())
]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="takes root")


def named(kind: str, name: str) -> dict[str, Any]:
    """One object of the examples."""
    [found] = [one for one in OBJECTS if one["kind"] == kind and one["metadata"]["name"] == name]
    return found


def pods() -> Iterator[dict[str, Any]]:
    """The pods that the examples describe."""
    for one in OBJECTS:
        spec = one.get("spec", {})
        if one["kind"] == "Pod":
            yield spec
        elif "jobTemplate" in spec:
            yield spec["jobTemplate"]["spec"]["template"]["spec"]
        elif "template" in spec:
            yield spec["template"]["spec"]


def containers() -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """(pod, container)."""
    for pod in pods():
        for container in (*pod.get("initContainers", ()), *pod["containers"]):
            yield pod, container


def test_the_container_file_is_accepted_by_its_linter() -> None:
    linter = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([linter, DEPLOY / "Containerfile"], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_container_file_takes_what_the_repository_has() -> None:
    text = (DEPLOY / "Containerfile").read_text()
    extras = tomllib.loads((DEPLOY.parent / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    copied = [line.split()[1:-1] for line in text.splitlines() if line.startswith("COPY ") and "--from" not in line]
    assert all((DEPLOY.parent / name).exists() for names in copied for name in names)
    assert {"s3", "sftp", "metrics"} <= set(extras)
    assert f"-t {IMAGE} ." in text


@pytest.mark.parametrize("found", OBJECTS, ids=lambda found: f"{found['kind']}-{found['metadata']['name']}")
def test_objects_fit_the_schema(found: dict[str, Any]) -> None:
    kubernetes_validate.validate(found, kubernetes_validate.latest_version(), strict=True)


def test_what_containers_run_exists() -> None:
    for _, container in containers():
        assert container["image"] == IMAGE
        if "command" not in container:
            parse(container["args"])
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            if probe in container:
                [program, *words] = container[probe]["exec"]["command"]
                assert program == "modelfs"
                parse(words)
                # `status` waits for the daemon, and Python has to start.
                assert container[probe]["timeoutSeconds"] > 2 * limits.CONTROL_TIMEOUT


def test_containers_are_bounded_and_only_the_mount_is_privileged() -> None:
    for pod, container in containers():
        assert container["resources"]["limits"]["memory"]
        assert container["resources"]["requests"]["cpu"]
        privileged = container.get("securityContext", {}).get("privileged", False)
        shared = [where for where in container["volumeMounts"] if where.get("mountPropagation") == "Bidirectional"]
        assert privileged == bool(shared)  # Kubernetes refuses the one without the other
        if privileged:
            assert pod["terminationGracePeriodSeconds"] > limits.DRAIN_TIMEOUT + 5


def test_names_that_objects_use_are_there() -> None:
    for pod, container in containers():
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        assert {where["name"] for where in container["volumeMounts"]} <= set(volumes)
        for source in container.get("envFrom", ()):
            named("Secret", source["secretRef"]["name"])
        for volume in volumes.values():
            if "configMap" in volume:
                named("ConfigMap", volume["configMap"]["name"])
            if "persistentVolumeClaim" in volume:
                claim = named("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"])
                bound = named("PersistentVolume", claim["spec"]["volumeName"])
                assert bound["spec"]["storageClassName"] == claim["spec"]["storageClassName"] == ""
                assert bound["spec"]["hostPath"]["path"] == "/srv/modelfs"


def test_the_configuration_is_valid_and_mounts_where_pods_look(tmp_path: Path) -> None:
    [(name, text)] = named("ConfigMap", "modelfs")["data"].items()
    (tmp_path / name).write_text(text)
    said = Settings(**files.read(tmp_path / name).values)
    assert str(said.mountpoint) == "/srv/modelfs/team-a"
    assert said.allow_other
    words = [word for _, container in containers() for word in container.get("args", ())]
    assert f"/etc/modelfs/{name}" in words
    assert f"@/etc/modelfs/{name}" in words


PODS = """
set -e
mount -t tmpfs tmpfs {node}
mount --make-shared {node}
mkdir {node}/team-a
daemon() {{ unshare --mount --propagation unchanged sh -c 'echo $$ > {here}/pid; exec {modelfs} {arguments}'; }}
wait_for() {{
    for i in $(seq 150); do if sh -c "$1"; then return; fi; sleep 0.1; done
    echo "not reached: $1"; exit 1
}}
mounted="grep -q ' {node}/team-a fuse' /proc/mounts"
daemon &
wait_for "$mounted"                                      # Bidirectional: the node sees it
echo one > {node}/team-a/f
unshare --mount --propagation slave sleep 300 &          # a pod, with HostToContainer
pod=$!
in_pod() {{ nsenter --mount=/proc/$pod/ns/mnt "$@"; }}
wait_for "[ \\"\\$(nsenter --mount=/proc/$pod/ns/mnt cat {node}/team-a/f)\\" = one ]"
kill -KILL $(cat {here}/pid)                             # the daemon's pod dies, and is replaced
wait_for "! in_pod cat {node}/team-a/f 2>/dev/null"
daemon &
wait_for "$mounted && cat {node}/team-a/f >/dev/null 2>&1"
in_pod cat {node}/team-a/f && echo the pod sees the new mount
kill -TERM $(cat {here}/pid)
wait_for "! $mounted"
in_pod ls {node}/team-a
kill $pod
"""


@needs_root
def test_mounts_reach_pods_and_are_replaced_under_them(machine: Machine, store: str, tmp_path: Path) -> None:
    """The DaemonSet's own command, with mounts handed on as its volumes say, in mount namespaces of the test's own."""
    container = named("DaemonSet", "modelfs")["spec"]["template"]["spec"]["containers"][0]
    node = tmp_path / "node"
    node.mkdir()
    (tmp_path / "team-a.toml").write_text(f'store = "{store}"\nmountpoint = "{node}/team-a"\nallow-other = true\n')
    arguments = " ".join(container["args"]).replace("/etc/modelfs", str(tmp_path))
    script = PODS.format(
        node=node, here=tmp_path, modelfs=f"{sys.executable} -m modelfs", arguments=f"{arguments} >{tmp_path}/log 2>&1"
    )
    done = subprocess.run(
        unshared("sh", flags=("--propagation", "private", "--pid", "--fork", "--mount-proc", "--kill-child")),
        input=script,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    log = (tmp_path / "log").read_text()
    assert done.returncode == 0, f"{done.stdout}{done.stderr}{log}"
    assert done.stdout == "one\nthe pod sees the new mount\n"


@pytest.fixture
def slurm(store: str) -> Iterator[dict[str, str]]:
    """What Slurm gives its scripts, where every user may go, and a team-a that is a fresh store."""
    with (
        tempfile.TemporaryDirectory(prefix="modelfs-slurm-", dir="/var/tmp", ignore_cleanup_errors=True) as made,
        sandboxed(Path(made)) as environment,
    ):
        Path(made).chmod(0o755)
        configured = Path(environment["HOME"], ".config/modelfs")
        configured.mkdir(parents=True)
        (configured / "team-a.toml").write_text(f'store = "{store}"\nmountpoint = "/srv/models"\n')
        base = Path(environment["HOME"], "run")
        given = {"SLURM_JOB_ID": "17", "SLURM_JOB_UID": "12345", "SLURM_JOB_GID": "12345"}
        yield {**environment, **given, "MODELFS_JOB_BASE": str(base)}


def run(*command: object, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=60, check=False, **more)


@needs_root
def test_prolog_and_epilog(slurm: dict[str, str], store: str) -> None:
    done = run(DEPLOY / "slurm" / "prolog.sh", env=slurm)
    assert done.returncode == 0, done.stderr
    mountpoint = Path(slurm["MODELFS_JOB_BASE"]) / "17"
    as_user = ["setpriv", "--reuid=12345", "--regid=12345", "--clear-groups"]
    done = run(*as_user, "sh", "-c", f"echo saved > {mountpoint}/f && cat {mountpoint}/f")
    assert (done.stdout, done.stderr) == ("saved\n", "")
    other = ["setpriv", "--reuid=12346", "--regid=12346", "--clear-groups"]
    assert "Permission denied" in run(*other, "ls", mountpoint).stderr
    done = run(DEPLOY / "slurm" / "epilog.sh", env=slurm)
    assert done.returncode == 0, done.stderr
    assert not mountpoint.exists()
    assert "f\n" in run(sys.executable, "-m", "modelfs", "ls", store).stdout
    assert run(DEPLOY / "slurm" / "epilog.sh", env=slurm).returncode == 0  # a job without a mount


def test_a_job_that_mounts_for_itself(slurm: dict[str, str], store: str) -> None:
    script = DEPLOY / "slurm" / "job.sbatch"
    done = run(script, "sh", "-c", 'echo saved > "$MODELS/f"; exit 3', env=slurm)
    assert done.returncode == 3, done.stderr
    assert "f\n" in run(sys.executable, "-m", "modelfs", "ls", store).stdout


def test_a_job_whose_time_is_over_saves_first(slurm: dict[str, str], store: str, tmp_path: Path) -> None:
    program = f"trap 'echo late > \"$MODELS/late\"; exit 5' TERM; touch {tmp_path}/runs; while :; do sleep 0.1; done"
    with subprocess.Popen([DEPLOY / "slurm" / "job.sbatch", "sh", "-c", program], env=slurm) as job:
        eventually((tmp_path / "runs").exists, "the program runs")
        job.send_signal(signal.SIGTERM)
        assert job.wait(60) == 5
    assert "late\n" in run(sys.executable, "-m", "modelfs", "ls", store).stdout
    assert not any(entry.path.startswith(f"{slurm['TMPDIR']}/") for entry in mount_table())


@pytest.mark.parametrize("script", sorted((DEPLOY / "slurm").iterdir()), ids=lambda path: path.name)
def test_scripts_are_sound(script: Path) -> None:
    shell = script.read_text().split("\n", 1)[0].rpartition("/")[2]
    assert run(shell, "-n", script).returncode == 0
    assert os.access(script, os.X_OK)
    if linter := shutil.which("shellcheck"):
        done = run(linter, script)
        assert done.returncode == 0, done.stdout
