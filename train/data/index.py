"""The text files of a cache: which series are in it, what was left out, how it was made."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ichnode.domain.findings import LABELS
from ichnode.nets.manifest import PreprocessSpec, canonical
from train.data.records import Facts, Licence, Source, facts_as_row
from train.errors import TrainingError

FORMAT = 1
INDEX, QUARANTINE, SPEC, SOURCES = "index.jsonl", "quarantine.jsonl", "cache.json", "sources.json"

_NOTHING_SAID = facts_as_row(Facts())
_UNKNOWN: list[float | None] = [None] * len(LABELS)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the whole lines of a file; a last one that was cut short is not there."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    return [json.loads(line) for line in lines]


def cut_torn_line(path: Path) -> None:
    """Remove a last line that an interrupted build did not finish."""
    if path.is_file() and (content := path.read_bytes()) and not content.endswith(b"\n"):
        os.truncate(path, content.rfind(b"\n") + 1)


def as_frame(records: list[dict[str, Any]]) -> pd.DataFrame:
    """Return one row a slab from the lines of the index; columns as in `train.data.cache.Cache`.

    Lines of before volumes were kept lack what they follow from: NaN.
    """
    counts = [r["slabs"] for r in records]
    columns: dict[str, Any] = {
        name: np.repeat(np.asarray([r[name] for r in records]), counts)
        for name in ("dataset", "patient", "study", "series", "job", "label_source", "masked")
    }
    for name, unsaid in _NOTHING_SAID.items():
        columns[name] = np.repeat(_fact_column(records, name, unsaid), counts)
    columns["series_number"] = np.repeat(np.arange(len(records)), counts)
    columns["slab"] = np.concatenate([np.arange(count) for count in counts])
    columns["slice_key"] = [key for r in records for key in r["slice_keys"]]
    columns["position_mm"] = [p for r in records for p in r["positions_mm"]]
    columns["brain_fraction"] = [f for r in records for f in r["brain_fractions"]]
    labels = _floats([row for r in records for row in r["labels"]])
    whole = np.repeat(_floats([r["series_labels"] for r in records]), counts, axis=0)
    volumes_ml = np.repeat(_floats([r.get("volumes_ml") or _UNKNOWN for r in records]), counts, 0)
    for index, label in enumerate(LABELS):
        columns[label] = labels[:, index]
        columns[f"series_{label}"] = whole[:, index]
        columns[f"true_ml_{label}"] = volumes_ml[:, index]
    columns["image_mm2"] = np.repeat([r.get("image_mm2", np.nan) for r in records], counts)
    columns["extent_mm"] = [
        mm for r in records for mm in r.get("extents_mm", [np.nan] * r["slabs"])
    ]
    return pd.DataFrame(columns)


def left_out_frame(records: list[dict[str, Any]], lines: list[dict[str, Any]]) -> pd.DataFrame:
    """Return what was left out: whole series (``slice`` is ""), and slices of series that are in.

    Returns
    -------
    DataFrame
        ``dataset, job, slice, reason, detail``.
    """
    rows = [(x["dataset"], x["job"], "", x["reason"], x["detail"]) for x in lines]
    rows += [(r["dataset"], r["job"], *one) for r in records for one in r.get("left_out", ())]
    return pd.DataFrame(rows, columns=["dataset", "job", "slice", "reason", "detail"])


def keep_spec(folder: Path, spec: PreprocessSpec) -> None:
    """Write how a cache is made, or check that it is made so.

    Raises
    ------
    TrainingError
        When it is made in another way.
    """
    wanted: dict[str, Any] = {"format": FORMAT}
    bare = dataclasses.replace(spec, windows_hu=((0.0, 1.0),), context_slices=0)
    wanted["preprocess"] = json.loads(canonical(bare))  # without what does not touch the pixels
    if not (folder / SPEC).is_file():
        _replace(folder / SPEC, wanted)
    elif _load(folder / SPEC) != wanted:
        raise TrainingError(
            f"{folder} was made with another size or preprocessing; choose another folder."
        )


def kept_spec(folder: Path) -> PreprocessSpec:
    """Return how a cache was made.

    Raises
    ------
    TrainingError
        When there is none, or it is of another version.
    """
    if not (folder / SPEC).is_file():
        raise TrainingError(
            f"There is no cache in {folder}; make one with `python -m train data add`."
        )
    content = _load(folder / SPEC)
    if content.get("format") != FORMAT:
        raise TrainingError(f"The cache {folder} is of another version; make it again.")
    stored = content["preprocess"]
    stored["windows_hu"] = tuple(tuple(window) for window in stored["windows_hu"])
    return PreprocessSpec(**stored)


def keep_terms(folder: Path, source: Source) -> None:
    """Write a source's licence, and which labels it came with.

    A series is read once; so labels that were corrected since would be passed over in silence.
    A source may state a digest of its labels (``labels_digest``), or of what simulates them, which
    then has to stay the same.

    Raises
    ------
    TrainingError
        When the labels are others than those that are in the cache.
    """
    known = _load(folder / SOURCES) if (folder / SOURCES).is_file() else {}
    digest = str(getattr(source, "labels_digest", ""))
    terms = dataclasses.asdict(source.licence) | {"labels_digest": digest}
    before = known.get(source.name)
    if before is not None and before["labels_digest"] != digest:
        raise TrainingError(
            f"The labels of {source.name}, or what simulates them, are others than for {folder}; "
            "make another cache."
        )
    if before != terms:
        _replace(folder / SOURCES, known | {source.name: terms})


def kept_licences(folder: Path) -> dict[str, Licence]:
    """Return each dataset's terms."""
    stored = _load(folder / SOURCES) if (folder / SOURCES).is_file() else {}
    return {
        name: Licence(terms["name"], terms["non_commercial"], terms["cite"])
        for name, terms in stored.items()
    }


def forget_quarantined(folder: Path, dataset: str) -> None:
    """Take a dataset's series out of the quarantine, so that they are tried again."""
    kept = [line for line in read_lines(folder / QUARANTINE) if line["dataset"] != dataset]
    aside = folder / f".{QUARANTINE}"
    aside.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
    aside.replace(folder / QUARANTINE)


def _fact_column(records: list[dict[str, Any]], name: str, unsaid: object) -> npt.NDArray[Any]:
    values = [r["facts"].get(name) for r in records]
    filled = [unsaid if value is None else value for value in values]
    if isinstance(unsaid, float) and math.isnan(unsaid):
        return np.asarray(filled, np.float64)
    return np.asarray(filled)


def _floats(rows: list[list[float | None]]) -> npt.NDArray[np.float32]:
    return np.asarray([[np.nan if v is None else v for v in row] for row in rows], np.float32)


def _load(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise TrainingError(f"{path} is damaged; make the cache again.") from None
    return dict(content)


def _replace(path: Path, content: dict[str, Any]) -> None:
    """Write a small file so that it is never seen half written."""
    aside = path.with_name(f".{path.name}")
    aside.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    aside.replace(path)
