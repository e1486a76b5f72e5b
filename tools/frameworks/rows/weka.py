"""Weka: SerializationHelper for one object and for several, and a learner's command line, in a JVM inside this process.

The jar is the one that python-weka-wrapper3 ships; JPype calls it. Nothing else of the wrapper is used."""

from __future__ import annotations

import os
import random
import re
import sys
import sysconfig
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import jpype
import rowkit

FEATURES, SAMPLES = 20, 600

JAR = Path(sysconfig.get_path("purelib"), "weka", "lib", "weka.jar")
# Weka looks for its packages below its home: it must find none, and must not make one in the user's.
HOME = rowkit.scratch() / "weka-home"
os.environ["WEKA_HOME"] = str(HOME)
OPTIONS = ["-Xmx512m", "-XX:+UseSerialGC", "-Djava.awt.headless=true", f"-Duser.home={HOME}"]
OPTIONS.append("--add-opens=java.base/java.lang=ALL-UNNAMED")
jpype.startJVM(*OPTIONS, classpath=[str(JAR)])

Helper = jpype.JClass("weka.core.SerializationHelper")
Evaluation = jpype.JClass("weka.classifiers.evaluation.Evaluation")
Instances = jpype.JClass("weka.core.Instances")
Version = jpype.JClass("weka.core.Version")


def table() -> str:
    """Rows of numbers with a class, as an ARFF file."""
    numbers = random.Random(7)
    lines = [
        "@relation numbers",
        *(f"@attribute x{index} numeric" for index in range(FEATURES)),
        "@attribute y {a,b,c}",
    ]
    lines.append("@data")
    for _ in range(SAMPLES):
        row = [numbers.gauss(0, 1) for _ in range(FEATURES)]
        kind = "abc"[(row[0] + row[1] * row[2] > 0) + (row[3] > 0.5)]
        lines.append(",".join([*(repr(number) for number in row), kind]))
    return "\n".join(lines) + "\n"


def instances() -> Any:
    data = Instances(jpype.JClass("java.io.StringReader")(table()))
    data.setClassIndex(FEATURES)
    return data


@rowkit.once
def model() -> dict[str, Any]:
    """A decision tree, a network of 3000 weights and a forest of 50 trees."""
    network = jpype.JClass("weka.classifiers.functions.MultilayerPerceptron")()
    network.setHiddenLayers("128")
    network.setTrainingTime(3)
    forest = jpype.JClass("weka.classifiers.trees.RandomForest")()
    forest.setNumIterations(50)
    forest.setPrintClassifiers(True)  # in its description
    models = {"tree": tree(), "network": network, "forest": forest}
    for one in models.values():
        one.buildClassifier(instances())
    return models


def tree() -> Any:
    return jpype.JClass("weka.classifiers.trees.J48")()


def weights(models: dict[str, Any]) -> list[Any]:
    """The tree as the Java source that Weka makes of it, less the hash codes in its names; the others as Weka prints
    them, a network with all its digits."""
    printed = [str(models[name].toString()) for name in sorted(models)]
    return [re.sub(r"\bN[0-9a-f]+\(", "N(", str(models["tree"].toSource("Tree"))), *printed]


def predict(models: dict[str, Any]) -> list[list[float]]:
    data = instances()
    asked = [data.instance(index) for index in range(20)]
    return [
        [float(value) for value in models[name].distributionForInstance(one)]
        for name in sorted(models)
        for one in asked
    ]


def write(models: dict[str, Any], directory: Path) -> None:
    for name, one in models.items():
        Helper.write(str(directory / f"{name}.model"), one)


def read(directory: Path) -> dict[str, Any]:
    return {name: Helper.read(str(directory / f"{name}.model")) for name in ("tree", "network", "forest")}


def write_all(models: dict[str, Any], directory: Path) -> None:
    header = Instances(instances(), 0)
    objects = [models["tree"], models["network"], models["forest"], header]
    Helper.writeAll(str(directory / "all.model"), jpype.JArray(jpype.JObject)(objects))


def read_all(directory: Path) -> dict[str, Any]:
    *models, header = Helper.readAll(str(directory / "all.model"))
    if not header.equalHeaders(instances()):
        raise ValueError("the header that was loaded is another")
    return dict(zip(("tree", "network", "forest"), models, strict=True))


@rowkit.once
def only_tree() -> dict[str, Any]:
    return {"tree": model()["tree"]}


def command_save(models: dict[str, Any], directory: Path) -> None:
    (directory / "train.arff").write_text(table())
    options = ["-t", str(directory / "train.arff"), "-d", str(directory / "tree.model.gz"), "-no-cv"]
    Evaluation.evaluateModel(tree(), jpype.JArray(jpype.JString)(options))


def command_load(directory: Path) -> dict[str, Any]:
    loaded = tree()
    options = ["-T", str(directory / "train.arff"), "-l", str(directory / "tree.model.gz")]
    Evaluation.evaluateModel(loaded, jpype.JArray(jpype.JString)(options))
    packed = jpype.JClass("java.util.zip.GZIPInputStream")
    return {"tree": Helper.read(packed(jpype.JClass("java.io.FileInputStream")(str(directory / "tree.model.gz"))))}


row = rowkit.Row("Weka", lambda: str(Version.VERSION))
row.add("write", "`SerializationHelper.write`, `read`", model, write, read, weights, predict)
row.add("write all", "`SerializationHelper.writeAll`, `readAll`", model, write_all, read_all, weights, predict)
row.add(
    "command line",
    "`J48 -t train.arff -d tree.model.gz`, `-l`",
    only_tree,
    command_save,
    command_load,
    weights,
    predict,
)

if __name__ == "__main__":
    row.main()
