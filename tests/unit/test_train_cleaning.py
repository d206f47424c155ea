"""The filters for slices without brain: what they drop, and what that costs."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from tests.training_data import SPEC, ToySource, toy_series
from train.data.cache import build_cache
from train.data.cleaning import (
    as_preset,
    brain_fraction,
    check_usable,
    clean,
    dropped,
)
from train.data.records import SourceSeries
from train.data.standardising import standardise_series
from train.data.views import Slices, all_slices
from train.errors import TrainingError


@dataclasses.dataclass(frozen=True, slots=True)
class Uneven(ToySource):
    """Series whose slices show 30, 10 and 1 % brain in turn; blood is in the third, of 1 %."""

    def read(self, job: str) -> SourceSeries:
        """Make one."""
        series = toy_series(int(job), slices=6)
        hu = np.full_like(series.hu, -1000)
        for index, part in enumerate((0.30, 0.10, 0.01) * 2):
            hu[index].reshape(-1)[: round(part * hu[index].size)] = 35
        return dataclasses.replace(series, hu=hu)


@pytest.fixture
def uneven(tmp_path: Path) -> Slices:
    """Four patients."""
    return all_slices(build_cache(tmp_path, Uneven(4), SPEC, workers=1), 1)


def test_both_limits_are_excluded_and_air_counts() -> None:
    """0 and 80 HU are outside the brain window, and the share is of all pixels."""
    hu = np.array([[[0, 1], [79, 80]], [[-1000, -1000], [-1000, 40]]], np.int16)
    assert brain_fraction(hu).tolist() == [0.5, 0.25]
    assert float(brain_fraction(hu[1])) == 0.25


def test_the_fraction_is_of_the_image_as_it_came(tmp_path: Path) -> None:
    """Not of what was cut to the head: a wide field of view has a smaller fraction."""
    series = toy_series(1)
    wide = np.full((6, 80, 80), -1000, np.int16)
    wide[:, 20:60, 20:60] = series.hu
    found = standardise_series("1", dataclasses.replace(series, hu=wide), SPEC)
    narrow = standardise_series("1", series, SPEC)
    native = brain_fraction(series.hu)
    assert narrow.record["brain_fractions"] == pytest.approx(native.tolist(), abs=1e-5)
    assert found.record["brain_fractions"] == pytest.approx((native / 4).tolist(), abs=1e-5)


def test_the_presets_drop_what_they_say(uneven: Slices) -> None:
    """The paper keeps one slice in three, the careful one two, none all; with their positives."""
    with pytest.raises(TrainingError, match="one class is missing"):
        clean(uneven, "paper")
    uneven.labels[1, 0] = 1  # a bleed that the paper's filter drops as well
    uneven.labels[0, 0] = 1
    paper, report = clean(uneven, "paper")
    assert len(paper) == 8
    assert (report.slices, report.dropped, report.patients_dropped) == (24, 16, 0)
    assert report.positives["any"] == 4
    assert report.positives_dropped == {**dict.fromkeys(report.positives, 0), "any": 3,
                                        "intraparenchymal": 2}  # fmt: skip
    careful, less = clean(uneven, "careful")
    assert len(careful) == 16
    assert less.positives_dropped["any"] == 2
    assert "drops 8 of 24 slices and 0 of 4 patients" in less.sentence()
    assert "2 of 4 any, 2 of 2 intraparenchymal" in less.sentence()
    assert len(clean(uneven, "none")[0]) == 24


def test_neighbours_outlive_the_filter(uneven: Slices) -> None:
    """A slice that was dropped is still the neighbour of one that was kept."""
    uneven.labels[0, 0] = 1
    kept = clean(uneven, "paper")[0]
    assert kept.rows.tolist()[:2] == [0, 3]
    assert kept.around[kept.rows[1]].tolist() == [2, 3, 4]


def test_dropped_slices_can_be_looked_at(uneven: Slices) -> None:
    """Those with a bleed come first."""
    listed = dropped(uneven, "paper")
    assert len(listed) == 16
    assert listed["any"].tolist() == [1, 1] + [0] * 14


def test_nothing_left_is_one_clear_sentence(tmp_path: Path) -> None:
    """No patients, no labels, no slice with a bleed, none without."""
    source = ToySource(4, unlabelled=frozenset("13"))
    slices = all_slices(build_cache(tmp_path, source, SPEC, workers=1), 0)
    everything = np.ones(len(slices), bool)
    bleeds = slices.labels[:, 0] == 1
    for kept, sentence in (
        (~everything, "There are no patients left after the filter"),
        (np.isnan(slices.labels[:, 0]), "No label is known of what is left after the filter"),
        (bleeds, "nothing without a bleed left after the filter: one class is missing"),
        (~bleeds, "nothing with a bleed left after the filter: one class is missing"),
    ):
        with pytest.raises(TrainingError, match=sentence):
            check_usable(slices.where(kept), after="the filter")
    check_usable(slices, after="the filter")


def test_labels_of_series_will_do(tmp_path: Path) -> None:
    """Where no slice is labelled, both classes among the series are enough."""
    slices = all_slices(build_cache(tmp_path, ToySource(4), SPEC, workers=1), 0)
    slices.labels[:] = np.nan
    check_usable(slices, after="the filter")
    with pytest.raises(TrainingError, match="nothing without"):
        check_usable(slices.of_patients({"p0", "p2"}), after="the filter")


def test_a_preset_has_a_name() -> None:
    """Known names are taken, others answered with what is known."""
    assert as_preset("paper") == "paper"
    with pytest.raises(TrainingError, match="known are paper, careful, none"):
        as_preset("strict")
