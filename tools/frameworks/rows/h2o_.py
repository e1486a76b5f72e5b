"""H2O-3: binary models, written by its server and by its client, and MOJOs.

3.46.0.11 is the last version whose open edition writes MOJOs. The server is the one in the package, started as its
manual says, alone on loopback: with a flat file of one node it asks no network for others."""

from __future__ import annotations

import atexit
import contextlib
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

os.environ["DO_NOT_TRACK"] = "1"
import h2o
import rowkit
from h2o.estimators import H2OGeneralizedLinearEstimator, H2OGradientBoostingEstimator
from h2o.tree import H2OTree

Models = dict[str, Any]

FEATURES = [f"x{index}" for index in range(12)]
TREES = 20


def start() -> None:
    """The server, until this process ends. Its port and the next one are below those of outgoing connections."""
    home = Path(tempfile.mkdtemp(prefix="h2o-"))
    port = free_ports()
    (home / "flat").write_text(f"127.0.0.1:{port}\n")
    jar = Path(h2o.__file__).parent / "backend" / "bin" / "h2o.jar"
    command = ["java", "-Xmx1g", "-XX:+UseSerialGC", "-jar", str(jar), "-name", home.name, "-nthreads", "2"]
    command += ["-ip", "127.0.0.1", "-web_ip", "127.0.0.1", "-port", str(port), "-flatfile", str(home / "flat")]
    command += ["-ice_root", str(home), "-log_dir", str(home), "-log_level", "WARN"]
    with (home / "server.log").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    atexit.register(stop, server, home)
    deadline = time.monotonic() + 240  # under strace on a busy machine it takes a minute
    while True:
        try:
            h2o.connect(url=f"http://127.0.0.1:{port}", verbose=False)
            break
        except h2o.exceptions.H2OConnectionError:
            if server.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.1)
    h2o.no_progress()


def stop(server: subprocess.Popen[bytes], home: Path) -> None:
    server.kill()
    server.wait()
    shutil.rmtree(home, ignore_errors=True)


def free_ports() -> int:
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with socket.socket() as one, socket.socket() as two, contextlib.suppress(OSError):
            one.bind(("127.0.0.1", port))
            two.bind(("127.0.0.1", port + 1))
            return port


@rowkit.once
def frame() -> Any:
    numbers = random.Random(7)
    rows = [[numbers.gauss(0, 1) for _ in FEATURES] for _ in range(600)]
    labels = ["yes" if row[0] + row[1] * row[2] > 0 else "no" for row in rows]
    return h2o.H2OFrame(
        {**{name: [row[index] for row in rows] for index, name in enumerate(FEATURES)}, "label": labels},
        column_types={**dict.fromkeys(FEATURES, "numeric"), "label": "enum"},
    )


@rowkit.once
def model() -> Models:
    """Boosted trees and a regression."""
    trees = H2OGradientBoostingEstimator(ntrees=TREES, max_depth=5, seed=7, model_id="trees")
    linear = H2OGeneralizedLinearEstimator(family="binomial", seed=7, model_id="linear")
    for one in (trees, linear):
        one.train(x=FEATURES, y="label", training_frame=frame())
    return {"trees": trees, "linear": linear}


def weights(models: Models) -> list[Any]:
    """Every split and leaf, and the coefficients."""
    trees = [H2OTree(models["trees"], index) for index in range(TREES)]
    return [[(tree.features, tree.thresholds, tree.predictions) for tree in trees], models["linear"].coef()]


def scores(models: Models) -> list[list[float]]:
    """What a MOJO gives for every sample: once imported, it answers nothing else about its trees."""
    return [answers(models[name], frame()) for name in sorted(models)]


def predict(models: Models) -> list[list[float]]:
    asked = frame()[:20, :]
    return [answers(models[name], asked) for name in sorted(models)]


def answers(model: Any, asked: Any) -> list[float]:
    return [float(one) for (one,) in model.predict(asked)["yes"].as_data_frame(use_pandas=False, header=False)]


def server_save(models: Models, directory: Path) -> None:
    for name, one in models.items():
        h2o.save_model(one, str(directory), filename=name)


def server_load(directory: Path) -> Models:
    return {name: h2o.load_model(str(directory / name)) for name in ("trees", "linear")}


def server_overwrite(models: Models, directory: Path) -> None:
    server_save(models, directory)
    for name, one in models.items():
        h2o.save_model(one, str(directory), filename=name, force=True)


def client_save(models: Models, directory: Path) -> None:
    for name, one in models.items():
        h2o.download_model(one, str(directory), filename=name)


def client_load(directory: Path) -> Models:
    return {name: h2o.upload_model(str(directory / name)) for name in ("trees", "linear")}


def mojo_save(models: Models, directory: Path) -> None:
    for name, one in models.items():
        one.save_mojo(str(directory), filename=f"{name}.zip")


def mojo_load(directory: Path) -> Models:
    return {name: h2o.import_mojo(str(directory / f"{name}.zip")) for name in ("trees", "linear")}


row = rowkit.Row("H2O-3", lambda: h2o.__version__)
row.add("save_model", "`h2o.save_model`, `load_model` (the server)", model, server_save, server_load, weights, predict)
row.add("overwrite", "`h2o.save_model(force=True)`", model, server_overwrite, server_load, weights, predict)
row.add(
    "download_model",
    "`h2o.download_model`, `upload_model` (the client)",
    model,
    client_save,
    client_load,
    weights,
    predict,
)
row.add(
    "mojo",
    "`model.save_mojo`, `h2o.import_mojo` (the server; 3.46.0.12 keeps MOJOs for its paid edition)",
    model,
    mojo_save,
    mojo_load,
    scores,
    predict,
)

if __name__ == "__main__":
    with contextlib.redirect_stdout(sys.stderr):  # it says how old it is
        start()
        frame()
    row.main()
