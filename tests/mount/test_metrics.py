"""Metrics of a running mount: Prometheus's parser reads them, they tell what happened, nobody waits for them."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from ceph_rgw import free_port
from mounting import Machine, eventually
from prometheus_client.parser import text_string_to_metric_families

from modelfs.errors import UsageError
from modelfs.quantities import parse_address

MIB = 1 << 20
MONITORING = Path(__file__).resolve().parents[2] / "docs" / "monitoring"
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain")
        return str(answer.read().decode())


def samples(port: int) -> Samples:
    families = text_string_to_metric_families(scrape(port))
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def value(found: Samples, name: str, **labels: str) -> float:
    return found[(f"modelfs_{name}", frozenset(labels.items()))]


def test_metrics_tell_what_happened(machine: Machine, store: str) -> None:
    first = machine.mount(store, "first", "cache1")
    (first / "f").write_bytes(os.urandom(20 * MIB))
    port = free_port()
    mnt = machine.mount(store, "second", "cache2", metrics=f"127.0.0.1:{port}")
    (mnt / "f").read_bytes()
    (mnt / "g").write_bytes(os.urandom(3 * MIB))
    found = samples(port)
    facts = machine.status(mnt)
    assert value(found, "read_bytes_total") == value(found, "fetched_bytes_total") == 20 * MIB
    assert value(found, "cache_miss_bytes_total") == 20 * MIB
    assert value(found, "written_bytes_total") == 3 * MIB
    assert value(found, "head_commit_number") == facts["commit"] == 3
    assert value(found, "pending_files") == value(found, "errors_total") == value(found, "store_away") == 0
    assert value(found, "cache_limit_bytes") == facts["cache"]["limit"]
    gets = value(found, "store_requests_total", operation="get", result="ok")
    assert gets >= facts["fetched_chunks"]
    assert value(found, "store_request_duration_seconds_bucket", operation="get", le="+Inf") >= gets
    assert any(name == "modelfs_mount_info" and ("branch", "main") in labels for name, labels in found)
    assert ("process_resident_memory_bytes", frozenset()) in found
    again = samples(port)
    counters = [key for key in found if key[0].startswith("modelfs_") and key[0].endswith("_total")]
    assert len(counters) > 15
    assert all(again[key] >= found[key] for key in counters)
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/other", timeout=30)
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", data=b"x", timeout=30)
    machine.umount(mnt)
    with pytest.raises(OSError, match="refused"):
        scrape(port)


def test_a_client_that_says_nothing_keeps_nobody_from_reading(machine: Machine, store: str) -> None:
    port = free_port()
    mnt = machine.mount(store, metrics=f":{port}")
    with socket.create_connection(("127.0.0.1", port)):
        (mnt / "f").write_bytes(b"x" * MIB)
        assert (mnt / "f").read_bytes() == b"x" * MIB
        assert value(samples(port), "written_bytes_total") == MIB  # it was given up
    with socket.create_connection(("127.0.0.1", port)):
        machine.umount(mnt)


def test_a_port_in_use_is_said_before_anything_is_mounted(machine: Machine, store: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UsageError, match="cannot listen there"):
            machine.mount(store, metrics=f"127.0.0.1:{taken.getsockname()[1]}")


@pytest.mark.parametrize("text", ["", "9101", "host", "host:", "host:x", "host:99999", "1:2:3", "h:-1", "h:٣"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(UsageError, match="not HOST:PORT"):
        parse_address("--metrics", text)


def test_addresses() -> None:
    assert parse_address("--metrics", "127.0.0.1:9101") == ("127.0.0.1", 9101)
    assert parse_address("--metrics", ":0") == ("127.0.0.1", 0)


# -- what is built on them -----------------------------------------------------------------------------------------


def expressions() -> list[str]:
    """Every PromQL expression of the dashboard and the alerts."""
    import yaml

    board: dict[str, Any] = json.loads((MONITORING / "grafana.json").read_text())
    rules = yaml.safe_load((MONITORING / "alerts.yml").read_text())
    found = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    return [*found, *(rule["expr"] for group in rules["groups"] for rule in group["rules"])]


def test_dashboard_and_alerts_speak_of_metrics_that_exist(machine: Machine, store: str) -> None:
    port = free_port()
    machine.mount(store, metrics=f"127.0.0.1:{port}")
    eventually(lambda: "modelfs_store_asked_timestamp_seconds" in scrape(port), "the first answer")
    known = {name for name, _ in samples(port)}
    used = {name for text in expressions() for name in re.findall(r"\b(?:modelfs|process)_\w+", text)}
    assert len(used) > 20
    assert used <= known


def test_promtool_takes_rules_and_metrics(machine: Machine, store: str, tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian: prometheus)")
    for check in (["rules", "alerts.yml"], ["config", "prometheus.yml"]):
        done = subprocess.run(
            [promtool, "check", *check], cwd=MONITORING, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    rules = [{"record": f"x:{i}", "expr": text} for i, text in enumerate(expressions())]
    plain = json.dumps({"groups": [{"name": "dashboard", "rules": rules}]})
    plain = plain.replace("$__rate_interval", "5m").replace("$instance", ".*")
    (tmp_path / "dashboard.yml").write_text(plain)
    done = subprocess.run(
        [promtool, "check", "rules", tmp_path / "dashboard.yml"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    port = free_port()
    machine.mount(store, metrics=f"127.0.0.1:{port}")
    done = subprocess.run(
        [promtool, "check", "metrics"], input=scrape(port), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
