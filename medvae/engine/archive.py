"""Scores any number of images, a shard at a time, into one Parquet and one CSV.

A shard's result is one file that appears whole or not at all, so the work may be interrupted
anywhere, and done by any number of processes at once. Knows nothing of jobs or of who works.
"""

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as pa_csv
from pyarrow import parquet as pq

from medvae.engine.archive_plan import Archive, plan_archive, writing
from medvae.engine.detection_files import UNUSUAL, as_text, verdict
from medvae.engine.detector import NOT_A_CHEST, AnomalyDetector
from medvae.engine.events import OnEvent, Preparing, ShouldStop, Stopped, ignore, never
from medvae.engine.labels import LABELS
from medvae.engine.read_ahead import ReadImage, read_ahead
from medvae.engine.score_request import ScoreRequest
from medvae.engine.scores import DEFAULT_SCORE
from medvae.errors import DataError
from medvae.memory import freed_memory_kept

BATCH = 32  # as fast as 64 on a CPU, with 140 MB less
NOTICE = "Research use only. Not a medical device; not for diagnosis."


def score_shard(
    archive: Archive, number: int, detector: AnomalyDetector, should_stop: ShouldStop = never
) -> None:
    """Score the images of one shard into its result file, unless that is there already.

    What cannot be read becomes a row with its reason. Raises `Stopped`, leaving nothing.
    """
    if archive.result_file(number).exists():
        return
    fpr = archive.target_fpr or detector.config.detection.target_fpr
    threshold = detector.calibration.threshold(DEFAULT_SCORE, fpr)
    context = {
        "target_fpr": fpr,
        "threshold": threshold,
        "model": f"{detector.card.run}@{archive.model_sha256[:12]}",
    }
    rows: list[dict[str, Any]] = []
    with freed_memory_kept(detector.compute.device):
        for batch in read_ahead(archive.paths(number), detector.config.model.image_size, BATCH):
            if (stop := should_stop()) is not None:
                raise Stopped(stop)
            rows += [{**row, **context} for row in _score(batch, detector, threshold)]
    schema = _schema(str(context["model"]))
    with writing(archive.result_file(number)) as partial, partial.open("wb") as file:
        pq.write_table(pa.Table.from_pylist(rows, schema), file)
        file.flush()
        os.fsync(file.fileno())


def finish_archive(
    archive: Archive,
    detector: AnomalyDetector,
    on_event: OnEvent = ignore,
    should_stop: ShouldStop = never,
) -> dict[str, Any]:
    """Score here whatever shard is missing, then merge all; returns the summary of `merge_shards`.

    Raises `Stopped` when asked to; the same call goes on from there.
    """
    missing = archive.missing()
    for done, number in enumerate(missing, start=archive.shards - len(missing)):
        on_event(Preparing("Scoring", done * archive.images // archive.shards, archive.images))
        score_shard(archive, number, detector, should_stop)
    on_event(Preparing("Writing the table", archive.images, archive.images))
    return merge_shards(archive)


def score_here(
    request: ScoreRequest, on_event: OnEvent = ignore, should_stop: ShouldStop = never
) -> dict[str, Any]:
    """All of it in this process; `OUT.parts` beside the table holds what is done until the end."""
    folder = request.out.with_name(f"{request.out.name}.parts")
    archive = plan_archive(folder, request, on_event, should_stop)
    detector = AnomalyDetector.load(archive.model)
    summary = finish_archive(archive, detector, on_event, should_stop)
    shutil.rmtree(folder, ignore_errors=True)
    return summary


def merge_shards(archive: Archive) -> dict[str, Any]:
    """One Parquet and one CSV of all shards, in the order of the plan; the shards are removed.

    Returns counts of rows, by verdict, and the files written. Raises `DataError`, naming the
    damaged shard and removing its result, when rows are missing.
    """
    done = archive.summary_file
    if done.exists():
        summary: dict[str, Any] = json.loads(done.read_text(encoding="utf-8"))
        return summary
    table, text = Path(archive.out), Path(archive.out).with_suffix(".csv")
    count = {"images": 0, "unusual": 0, "unreadable": 0}
    schema = _rows_of(archive, 0).schema
    with (
        writing(table) as parquet_partial,
        writing(text) as text_partial,
        pq.ParquetWriter(parquet_partial, schema) as parquet_writer,
        pa_csv.CSVWriter(text_partial, schema) as text_writer,
    ):
        for number in range(archive.shards):
            rows = _rows_of(archive, number)
            parquet_writer.write_table(rows)
            text_writer.write_table(rows)
            count["images"] += rows.num_rows
            count["unusual"] += pc.sum(pc.equal(rows["verdict"], UNUSUAL)).as_py() or 0
            count["unreadable"] += rows.num_rows - rows["error"].null_count
    model = schema.metadata[b"model"].decode()
    summary = {**count, "model": model, "files": [str(table), str(text)]}
    with writing(done) as partial:
        partial.write_text(json.dumps(summary), encoding="utf-8")
    shutil.rmtree(archive.shard_folder, ignore_errors=True)
    return summary


def _score(
    batch: Sequence[ReadImage], detector: AnomalyDetector, threshold: float
) -> Iterator[dict[str, Any]]:
    """A row for each file, in order."""
    pixels = [read.pixels for read in batch if read.pixels is not None]
    scores = detector.score_inputs(np.stack(pixels)) if pixels else {}
    chests = detector.are_chests(np.stack(pixels)) if pixels else np.empty(0)
    scored = 0
    for read in batch:
        row: dict[str, Any] = {
            "path": as_text(read.path),
            "sha256": read.sha256,
            "error": read.error and as_text(read.error),
        }
        if read.pixels is not None:
            values = {name: float(column[scored]) for name, column in scores.items()}
            score = values[DEFAULT_SCORE]
            row |= {**values, "p_value": detector.calibration.p_value(DEFAULT_SCORE, score)}
            row["verdict"] = verdict(score > threshold, threshold)
            row["warning"] = None if chests[scored] else NOT_A_CHEST
            scored += 1
        yield row


def _schema(model: str) -> pa.Schema:
    """Columns of the table, and what holds for all of it."""
    columns = {
        "path": pa.string(),
        "sha256": pa.string(),
        **{name: pa.float32() for name in LABELS},
        "p_value": pa.float64(),
        "verdict": pa.string(),
        "target_fpr": pa.float64(),
        "threshold": pa.float64(),
        "model": pa.string(),
        "warning": pa.string(),
        "error": pa.string(),
    }
    return pa.schema(columns, {"model": model, "notice": NOTICE})


def _rows_of(archive: Archive, number: int) -> pa.Table:
    """The result of one shard, which must have a row for each of its images."""
    file = archive.result_file(number)
    try:
        rows = pq.read_table(file)
        whole = rows.num_rows == len(archive.paths(number))
    except (OSError, pa.ArrowException):
        whole = False
    if not whole:
        file.unlink(missing_ok=True)
        raise DataError(f"{file}: missing or damaged; begin again, and only this part is redone")
    return rows
