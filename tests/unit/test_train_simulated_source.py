"""Simulated heads as a source of training data."""

from __future__ import annotations

import numpy as np
import pytest

from ichnode.phantom import simulate_head
from ichnode.phantom.studies import DEMONSTRATION_SEEDS, HOLDOUT_SEEDS
from tests.training_data import SPEC
from train.data.records import series_truth
from train.data.sources.known import open_known
from train.data.sources.simulated import SIZES_PX, Simulated
from train.data.standardising import standardise_series
from train.errors import TrainingError


def test_a_head_comes_with_all_its_truth() -> None:
    """Pixels, labels of slices and voxels are the simulator's; it says that it is simulated."""
    series = Simulated(range(4), size_px=64).read("3")
    head = simulate_head(3, size_px=64)
    assert (series.hu == head.hu).all()
    assert (series.slice_labels == head.labels).all()
    assert series.kinds is not None
    assert (series.kinds == head.mask).all()
    assert series_truth(series).tolist() == head.labels.any(axis=0).tolist()
    assert series.label_source == "simulation"
    assert series.patient == "sim-3"
    assert series.facts.thickness_mm == head.thickness_mm
    assert np.diff(series.positions_mm) == pytest.approx(head.spacing_mm[0])


def test_marked_voxels_are_those_of_the_labelled_slices() -> None:
    """After sizing, a slice has marked pixels only where it is labelled, and of that kind."""
    kept = standardise_series("3", Simulated(range(4), size_px=64).read("3"), SPEC)
    assert kept.kinds is not None
    for kinds, labels in zip(kept.kinds, kept.record["labels"], strict=True):
        present = set(np.unique(kinds).tolist()) - {0}
        assert present <= {index for index in range(1, 6) if labels[index]}


def test_a_range_names_the_seeds() -> None:
    """The first is in, the last is out; jobs are the seeds; sizes come in turn."""
    source = open_known("simulated", "2:5")
    assert source.jobs() == ["2", "3", "4"]
    assert source.name == "simulated"
    assert not source.licence.non_commercial
    assert source.licence.name == "Apache-2.0"
    assert len(SIZES_PX) == 4


def test_holdout_seeds_are_another_dataset() -> None:
    """What nothing may learn from has a name of its own."""
    first = HOLDOUT_SEEDS.start
    assert open_known("simulated", f"{first}:{first + 2}").name == "simulated-holdout"


@pytest.mark.parametrize(
    "text",
    [
        f"{HOLDOUT_SEEDS.start - 1}:{HOLDOUT_SEEDS.start + 1}",
        f"{DEMONSTRATION_SEEDS.start}:{DEMONSTRATION_SEEDS.start + 1}",
        f"0:{HOLDOUT_SEEDS.stop}",
    ],
)
def test_training_and_holdout_are_never_mixed(text: str) -> None:
    """A range that reaches over both, or is for the demonstration, is refused."""
    with pytest.raises(TrainingError, match="keeps to one of them"):
        open_known("simulated", text)


@pytest.mark.parametrize("text", ["", "7", "5:5", "9:3", "-1:4", "a:b"])
def test_what_is_no_range_is_refused(text: str) -> None:
    """The sentence shows how one is written."""
    with pytest.raises(TrainingError, match="such as 0:300"):
        open_known("simulated", text)
