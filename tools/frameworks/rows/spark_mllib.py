"""Spark MLlib: fitted pipelines, single models and a cross-validation, written to a mounted path as file://."""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pyspark
import rowkit
from pyspark.ml import Pipeline, PipelineModel
from pyspark.ml.classification import (
    LogisticRegression,
    RandomForestClassificationModel,
    RandomForestClassifier,
)
from pyspark.ml.evaluation import MulticlassClassificationEvaluator
from pyspark.ml.feature import StandardScaler, VectorAssembler
from pyspark.ml.recommendation import ALS, ALSModel
from pyspark.ml.tuning import CrossValidator, CrossValidatorModel, ParamGridBuilder
from pyspark.sql import DataFrame, SparkSession

os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
SETTINGS = {
    "spark.driver.memory": "1g",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
    "spark.local.dir": str(rowkit.scratch() / "spark"),
    "spark.sql.warehouse.dir": str(rowkit.scratch() / "warehouse"),
    "spark.sql.shuffle.partitions": "2",
    "spark.ui.enabled": "false",
    "spark.log.level": "ERROR",
}


@rowkit.once
def session() -> SparkSession:
    builder = SparkSession.builder.master("local[2]").appName("row")
    for name, value in SETTINGS.items():
        builder = builder.config(name, value)
    return builder.getOrCreate()


@rowkit.once
def frame() -> DataFrame:
    numbers = random.Random(7)
    rows = []
    for _ in range(600):
        row = [numbers.gauss(0, 1) for _ in range(12)]
        rows.append((*row, float((row[0] + row[1] * row[2] > 0) + (row[3] > 0.5))))
    return session().createDataFrame(rows, [*(f"x{index}" for index in range(12)), "label"]).coalesce(1).cache()


def assembler() -> VectorAssembler:
    return VectorAssembler(inputCols=[f"x{index}" for index in range(12)], outputCol="raw")


def url(path: Path) -> str:
    return path.absolute().as_uri()


@rowkit.once
def pipeline() -> PipelineModel:
    """Columns to a vector, scaled, and a regression."""
    stages = [assembler(), StandardScaler(inputCol="raw", outputCol="features"), LogisticRegression(maxIter=10)]
    return Pipeline(stages=stages).fit(frame())


def pipeline_save(model: PipelineModel, directory: Path) -> None:
    model.save(url(directory / "pipeline"))


def pipeline_overwrite(model: PipelineModel, directory: Path) -> None:
    model.write().overwrite().save(url(directory / "pipeline"))
    model.write().overwrite().save(url(directory / "pipeline"))


def pipeline_load(directory: Path) -> PipelineModel:
    return PipelineModel.load(url(directory / "pipeline"))


def pipeline_weights(model: PipelineModel) -> list[Any]:
    return [
        model.stages[1].std.toArray(),
        model.stages[2].coefficientMatrix.toArray(),
        list(model.stages[2].interceptVector),
    ]


def predict(model: Any) -> list[list[float]]:
    return [list(row.probability) for row in model.transform(frame()).select("probability").take(20)]


@rowkit.once
def forest() -> RandomForestClassificationModel:
    """40 trees."""
    return RandomForestClassifier(numTrees=40, maxDepth=8, seed=7, featuresCol="raw").fit(
        assembler().transform(frame())
    )


def forest_save(model: RandomForestClassificationModel, directory: Path) -> None:
    model.save(url(directory / "forest"))


def forest_load(directory: Path) -> RandomForestClassificationModel:
    return RandomForestClassificationModel.load(url(directory / "forest"))


def forest_weights(model: RandomForestClassificationModel) -> str:
    """Every split and leaf, as Spark prints them, without the line that has the model's own name."""
    return model.toDebugString.partition("\n")[2]


def forest_predict(model: RandomForestClassificationModel) -> list[list[float]]:
    return [list(row.probability) for row in model.transform(assembler().transform(frame())).take(20)]


def ratings() -> DataFrame:
    numbers = random.Random(8)
    rows = [(user, item, numbers.random() * 5) for user in range(60) for item in range(50) if numbers.random() < 0.4]
    return session().createDataFrame(rows, ["user", "item", "rating"]).coalesce(1)


@rowkit.once
def factors() -> ALSModel:
    """Factors of users and of items, as Parquet by Spark's executors."""
    return ALS(rank=16, maxIter=3, seed=7, numUserBlocks=2, numItemBlocks=2).fit(ratings())


def factors_save(model: ALSModel, directory: Path) -> None:
    model.save(url(directory / "als"))


def factors_load(directory: Path) -> ALSModel:
    return ALSModel.load(url(directory / "als"))


def factors_weights(model: ALSModel) -> list[Any]:
    tables = [table.orderBy("id").collect() for table in (model.userFactors, model.itemFactors)]
    return [[(row.id, list(row.features)) for row in table] for table in tables]


def factors_predict(model: ALSModel) -> list[float]:
    asked = ratings().limit(20)
    return [row.prediction for row in model.transform(asked).orderBy("user", "item").collect()]


@rowkit.once
def validation() -> CrossValidatorModel:
    """Two settings of a regression in two folds: a model with models in it."""
    regression = LogisticRegression(maxIter=5, featuresCol="raw")
    grid = ParamGridBuilder().addGrid(regression.regParam, [0.0, 0.1]).build()
    chooser = CrossValidator(
        estimator=Pipeline(stages=[assembler(), regression]),
        estimatorParamMaps=grid,
        evaluator=MulticlassClassificationEvaluator(),
        numFolds=2,
        seed=7,
        collectSubModels=True,
    )
    return chooser.fit(frame())


def validation_save(model: CrossValidatorModel, directory: Path) -> None:
    model.write().option("persistSubModels", "true").save(url(directory / "validation"))


def validation_load(directory: Path) -> CrossValidatorModel:
    return CrossValidatorModel.load(url(directory / "validation"))


def validation_weights(model: CrossValidatorModel) -> list[Any]:
    """Of the models within, those of the last fold alone: PySpark 4.3 loads them into a list that all folds share."""
    metrics = [float(metric) for metric in model.avgMetrics]
    kept = [model.bestModel, *model.subModels[-1]]
    return [metrics, *(one.stages[1].coefficientMatrix.toArray() for one in kept)]


row = rowkit.Row("Spark MLlib", lambda: pyspark.__version__)
row.add(
    "pipeline",
    "`PipelineModel.save('file://…')`, `PipelineModel.load`",
    pipeline,
    pipeline_save,
    pipeline_load,
    pipeline_weights,
    predict,
)
row.add(
    "overwrite",
    "`write().overwrite().save`, twice",
    pipeline,
    pipeline_overwrite,
    pipeline_load,
    pipeline_weights,
    predict,
)
row.add(
    "forest",
    "`RandomForestClassificationModel.save`, `load`",
    forest,
    forest_save,
    forest_load,
    forest_weights,
    forest_predict,
)
row.add("factors", "`ALSModel.save`, `load`", factors, factors_save, factors_load, factors_weights, factors_predict)
row.add(
    "cross-validation",
    "`write().option('persistSubModels', 'true').save`, `load` (all folds get the last one's models, on any disk)",
    validation,
    validation_save,
    validation_load,
    validation_weights,
    predict,
)

if __name__ == "__main__":
    session()  # the JVM starts before anything is timed
    frame().count()
    row.main()
