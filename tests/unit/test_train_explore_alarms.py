"""Leakage alarms: each goes off where it should, and says "not known" where it cannot tell."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from tests.exploring_kit import explored, harmless, leaking, made_up, record
from tests.training_data import SPEC, ToySource, toy_series
from train.data.cache import build_cache
from train.data.records import SourceSeries
from train.data.splits import split_of
from train.explore.alarms import Alarm, look_for_alarms
from train.explore.baseline import metadata_baseline, metadata_of
from train.explore.explored import Explored, of_cache

KEY = b"0" * 32


def alarms(made: Explored, key: bytes | None = None) -> dict[str, Alarm]:
    baseline = metadata_baseline(metadata_of(made), trees=30, draws=100)
    return {one.name: one for one in look_for_alarms(made, baseline, key=key)}


@dataclasses.dataclass(frozen=True)
class Copied(ToySource):
    """A source whose last series is the first one again, under another name and patient."""

    patient: str = "p0"

    def read(self, job: str) -> SourceSeries:
        if job != str(self.count - 1):
            return toy_series(int(job))
        return dataclasses.replace(toy_series(0, patient=self.patient), series="again", study="new")


def copied(folder: Path, patient: str) -> Explored:
    return of_cache(build_cache(folder, Copied(count=5, patient=patient), SPEC, workers=1))


def test_nothing_is_wrong_with_a_sound_table():
    """Harmless metadata, both classes, enough of a kind: all that can be told is clear."""
    found = alarms(made_up(80, harmless))
    states = {name: one.state for name, one in found.items()}
    assert states.pop("One scan twice") == "unknown"  # there are no pixels
    assert states.pop("Kinds that are rare") == "look"  # all blood is subdural
    assert set(states.values()) == {"clear"}
    assert all(one.found.endswith(".") for one in found.values())


def test_the_worst_comes_first():
    """Alarms are on top, then what is worth a look, then what is not known."""
    made = made_up(160, leaking)
    found = look_for_alarms(made, metadata_baseline(metadata_of(made), trees=30, draws=100))
    assert found[0].name == "Metadata that tell the label"
    order = ["alarm", "look", "unknown", "clear"]
    ranks = [order.index(one.state) for one in found]
    assert ranks == sorted(ranks)
    assert "bits_stored" in found[0].advice


def test_the_length_of_series_that_tells_the_label_is_an_alarm():
    """Longer with blood, or shorter: both are told."""
    for longer in (True, False):
        records = [
            record(n, n % 2 == 0, {}, slices=9 if (n % 2 == 0) is longer else 8) for n in range(60)
        ]
        found = alarms(explored(records))["Length of a series"]
        assert found.state == "alarm"
        assert f"AUROC of {1.0 if longer else 0.0:.3f}" in found.found


def test_sources_that_tell_the_label_are_an_alarm():
    """One source with blood alone and one without: a network would learn the source."""
    records = [
        record(n, n % 2 == 0, {}, dataset="ill" if n % 2 == 0 else "well") for n in range(40)
    ]
    found = alarms(explored(records))["Sources that tell the label"]
    assert found.state == "alarm"
    assert "ill 100 %, well 0 %" in found.found
    balanced = [record(n, n % 2 == 0, {}, dataset="ab"[n % 4 // 2]) for n in range(80)]
    assert alarms(explored(balanced))["Sources that tell the label"].state == "clear"


def test_one_study_of_two_patients_is_an_alarm():
    """Two keys for one person tear a study apart in a split by patients."""
    records = [record(n, n % 2 == 0, {}) for n in range(20)]
    records[1]["study"] = records[0]["study"]
    found = alarms(explored(records))["One patient, one key"]
    assert found.state == "alarm"
    assert found.found == "1 studies are under more than one patient."


def test_one_scan_under_two_patients_is_an_alarm(tmp_path):
    """A copy is seen in the pixels, whatever it is called, and told by the split where torn."""
    first = split_of("p0", KEY)
    apart = next(f"q{n}" for n in range(100) if split_of(f"q{n}", KEY) != first)
    made = copied(tmp_path / "apart", apart)
    found = alarms(made, KEY)["One scan twice"]
    assert found.state == "alarm"
    assert found.found.startswith("1 pairs of series show one scan under two patients, 1 of them")
    assert "of them" not in alarms(made)["One scan twice"].found


def test_one_scan_twice_under_one_patient_is_worth_a_look(tmp_path):
    """It stays together in a split, but counts twice."""
    found = alarms(copied(tmp_path / "together", "p0"))["One scan twice"]
    assert found.state == "look"
    assert "always under one patient" in found.found


def test_different_scans_are_no_copies(tmp_path):
    """Made-up heads of other seeds are told apart."""
    made = of_cache(build_cache(tmp_path / "c", ToySource(count=4), SPEC, workers=1))
    assert alarms(made)["One scan twice"].state == "clear"


def test_labels_that_contradict_each_other_are_counted():
    """A kind without "any", "any" without a kind, and a series that lacks what its slice shows."""
    records = [record(n, n % 2 == 0, {}) for n in range(6)]
    records[1]["labels"][0] = [0.0, 1.0, 0.0, 0.0, 0.0, 0.0]
    records[1]["labels"][1] = [1.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    records[3]["series_labels"] = [1.0] + [0.0] * 5
    found = alarms(explored(records))["Labels that contradict each other"]
    assert found.state == "alarm"
    assert "in 2 slices and 1 series" in found.found
    assert "1 series are said to lack what a slice of theirs shows" in found.found


@pytest.mark.parametrize(("positive", "which"), [(True, "with"), (False, "without")])
def test_one_class_alone_is_an_alarm(positive, which):
    """Of one class nothing can be learnt."""
    records = [record(n, positive, {}) for n in range(4)]
    for one in records:
        one["labels"] = [one["series_labels"]] * one["slabs"]
    found = alarms(explored(records))["Both classes"]
    assert (found.state, found.found) == ("alarm", f"All that is labelled is {which} blood.")


def test_nothing_labelled_is_not_known():
    """Without labels nothing is clear that asks for them."""
    records = [record(n, True, {}) for n in range(4)]
    for one in records:
        one["labels"] = [[None] * 6] * one["slabs"]
        one["series_labels"] = [None] * 6
    found = alarms(explored(records))
    unknown = {name for name, one in found.items() if one.state == "unknown"}
    assert {"Both classes", "Metadata that tell the label", "Length of a series",
            "Kinds that are rare"} <= unknown  # fmt: skip


def test_hounsfield_units_in_doubt_are_worth_a_look():
    """Series with the tags of wrapped values that nothing proves are counted."""
    records = [record(n, n % 2 == 0, {"hu_suspect": n == 0, "repaired": n == 1}) for n in range(4)]
    found = alarms(explored(records))["Hounsfield units"]
    assert found.state == "look"
    assert found.found.startswith("1 series were wrapped and put right; of 1 the tags")


def test_series_without_a_label_are_in_no_area():
    """What is not known takes no side."""
    made = made_up(40, harmless)
    made.series.loc[:9, "any"] = np.nan
    assert alarms(made)["Length of a series"].state == "clear"
