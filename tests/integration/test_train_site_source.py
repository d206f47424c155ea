"""The node's own export as a source: people's labels alone, and what does not fit is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.training_data import SPEC, toy_series
from train.data.cache import build_cache
from train.data.sources.known import open_known
from train.data.sources.site import SiteExport
from train.errors import TrainingError, Unusable

ABOUT = {"format": 1, "kind": "ichnode export", "created": "2026-11-26", "models": {}}


def study(number: int, **changes: Any) -> dict[str, Any]:
    """A line of the list: labelled, analysed, with pixels."""
    return {
        "study": f"s{number}",
        "patient": f"p{number}",
        "arrived_week": "2026-W40",
        "labels": {"any": number % 2, "subdural": number % 2},
        "label_source": "report",
        "confirmed": True,
        "flagged": False,
        "band": "routine",
        "reason": "",
        "series": {
            "key": f"k{number}",
            "file": f"series/k{number}.npz",
            "slices": 6,
            "facts": {"manufacturer": "toy", "thickness_mm": 5.0, "age_years": None, "rows": 40},
        },
        "champion": {"model_uid": "2.25.7", "series_probabilities": [0.9] * 6, "seconds": 1.0},
        **changes,
    }


def written(folder: Path, studies: list[dict[str, Any]]) -> Path:
    """An export of these studies, with the pixels of all that name a series."""
    (folder / "series").mkdir(parents=True)
    (folder / "export.json").write_text(json.dumps(ABOUT))
    (folder / "studies.jsonl").write_text("".join(json.dumps(one) + "\n" for one in studies))
    for number, one in enumerate(studies):
        if one["series"]:
            series = toy_series(number)
            np.savez(
                folder / one["series"]["file"],
                hu=series.hu,
                spacing_mm=np.asarray(series.spacing_mm),
                positions_mm=series.positions_mm,
            )
    return folder


def test_only_confirmed_labels_are_read(tmp_path: Path) -> None:
    """Unlabelled and unconfirmed studies are in the list and not in the training."""
    nothing = dict.fromkeys(("any", "subdural"))
    listed = [
        study(0),
        study(1),
        study(2, confirmed=False, label_source="model"),
        study(3, labels=nothing, label_source="", confirmed=False),
        study(4, labels={**nothing, "subdural": 1}),
    ]
    source = SiteExport(written(tmp_path, listed))
    assert source.jobs() == ["s0", "s1", "s4"]
    labels = {job: source.read(job).series_labels for job in source.jobs()}
    assert labels["s0"].tolist() == [0] * 6
    assert labels["s1"][[0, 5]].tolist() == [1, 1]
    assert np.isnan(labels["s1"][1:5]).all()
    assert labels["s4"][0] == 1


def test_what_is_read_is_what_was_exported(tmp_path: Path) -> None:
    """Pixels, positions and facts; slices have no labels of their own."""
    source = SiteExport(written(tmp_path / "export", [study(0), study(1)]))
    series, original = source.read("s1"), toy_series(1)
    assert (series.hu == original.hu).all()
    assert series.positions_mm.tolist() == original.positions_mm.tolist()
    assert series.spacing_mm == original.spacing_mm
    assert (series.patient, series.study, series.series) == ("p1", "s1", "k1")
    assert (series.facts.manufacturer, series.facts.rows) == ("toy", 40)
    assert np.isnan(series.facts.age_years)
    assert np.isnan(series.slice_labels).all()
    assert series.label_source == "report"
    cache = build_cache(tmp_path / "cache", source, SPEC, workers=2)
    assert cache.slices["patient"].drop_duplicates().tolist() == ["p0", "p1"]


@pytest.mark.parametrize("source", ["model", "champion", "2.25.7", "", "ichnode"])
def test_a_models_own_word_is_refused(tmp_path: Path, source: str) -> None:
    """A label that claims to be confirmed and is not from people stops everything."""
    with pytest.raises(TrainingError, match=r"line 2 .* not one that people gave"):
        SiteExport(written(tmp_path, [study(0), study(1, label_source=source)]))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"labels": {"any": 0, "subdural": 1}}, "line 1 .*contradicts itself|Line 1 .*contradicts"),
        ({"patient": None}, None),
    ],
)
def test_a_contradiction_stops(
    tmp_path: Path, change: dict[str, Any], sentence: str | None
) -> None:
    """A kind without any bleed is an error, an odd key is not."""
    folder = written(tmp_path, [study(0, **change)])
    if sentence is None:
        assert SiteExport(folder).jobs() == ["s0"]
        return
    with pytest.raises(TrainingError, match=sentence):
        SiteExport(folder)


def test_what_is_no_export_is_refused(tmp_path: Path) -> None:
    """An empty folder, another version, a torn line, a missing field, nothing labelled."""
    with pytest.raises(TrainingError, match=r"no export\.json"):
        open_known("site", str(tmp_path))
    folder = written(tmp_path / "export", [study(0)])
    with pytest.raises(TrainingError, match="leave --labels out"):
        open_known("site", str(folder), folder / "export.json")
    (folder / "export.json").write_text(json.dumps({**ABOUT, "format": 2}))
    with pytest.raises(TrainingError, match="this version"):
        SiteExport(folder)
    (folder / "export.json").write_text(json.dumps(ABOUT))
    (folder / "studies.jsonl").write_text('{"study": "s0", "pat')
    with pytest.raises(TrainingError, match=r"Line 1 of studies\.jsonl is damaged"):
        SiteExport(folder)
    (folder / "studies.jsonl").write_text('{"study": "s0"}\n')
    with pytest.raises(TrainingError, match="has no patient"):
        SiteExport(folder)
    (folder / "studies.jsonl").write_text("")
    with pytest.raises(TrainingError, match=r"No study of .* confirmed label"):
        SiteExport(folder)


def test_a_study_whose_pixels_are_of_no_use_is_quarantined(tmp_path: Path) -> None:
    """No series, a torn file, arrays that do not fit each other, a path out of the export."""
    out = {"key": "k3", "file": "../k3.npz", "facts": {}}
    listed = [study(0, series=None, reason="contrast"), study(1), study(2), study(3)]
    folder = written(tmp_path / "export", listed)
    (folder / "series" / "k1.npz").write_bytes(b"PK\x03\x04 torn")
    np.savez(
        folder / "series" / "k2.npz",
        hu=np.zeros((3, 4, 4), np.int16),
        spacing_mm=np.ones(3),
        positions_mm=np.zeros(3),
    )
    listed[3] = study(3, series=out)
    (folder / "studies.jsonl").write_text("".join(json.dumps(one) + "\n" for one in listed))
    source = SiteExport(folder)
    reasons = {}
    for job in source.jobs():
        with pytest.raises(Unusable) as refusal:
            source.read(job)
        reasons[job] = (refusal.value.reason, refusal.value.detail)
    assert reasons["s0"] == ("no series", "contrast")
    assert reasons["s1"][0] == "undecodable"
    assert reasons["s2"] == ("undecodable", "arrays that do not fit each other")
    assert reasons["s3"] == ("undecodable", "its file lies outside the export")


def test_what_is_not_read_changes_no_labels(tmp_path: Path) -> None:
    """Another export of the same labels goes on with the same cache; another source does not."""
    one = SiteExport(written(tmp_path / "a", [study(0), study(1), study(2, confirmed=False)]))
    other = SiteExport(written(tmp_path / "b", [study(1, band="urgent"), study(0, champion=None)]))
    third = SiteExport(written(tmp_path / "c", [study(0), study(1, label_source="adjudicated")]))
    assert one.labels_digest == other.labels_digest
    assert one.labels_digest != third.labels_digest


@pytest.mark.parametrize(
    ("name", "value"), [("spacing_mm", [5.0, 0.0, 1.0]), ("positions_mm", [float("nan")])]
)
def test_geometry_that_makes_no_sense_is_not_read(
    tmp_path: Path, name: str, value: list[float]
) -> None:
    """A single slice at no place, a pixel without a size."""
    folder = written(tmp_path, [study(0)])
    sound = {"spacing_mm": [5.0, 1.0, 1.0], "positions_mm": [0.0]}
    arrays = {key: np.asarray(held) for key, held in (sound | {name: value}).items()}
    np.savez(folder / "series" / "k0.npz", hu=np.zeros((1, 4, 4), np.int16), **arrays)
    with pytest.raises(Unusable, match="do not fit"):
        SiteExport(folder).read("s0")


def test_a_fact_of_another_type_is_not_said(tmp_path: Path) -> None:
    """One such cell would make a column that nobody can read."""
    odd = study(0)
    odd["series"]["facts"] = {"manufacturer": 7, "age_years": "old", "rows": 40}
    facts = SiteExport(written(tmp_path, [odd])).read("s0").facts
    assert facts.manufacturer == ""
    assert np.isnan(facts.age_years)
    assert facts.rows == 40
