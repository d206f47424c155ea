"""The alarm for scans that are in two sets."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from ichnode.nets.manifest import PreprocessSpec
from train.data.cache import build_cache
from train.data.overlap import MOST_BITS, difference_hash, overlaps
from train.data.records import SourceSeries
from train.data.sources.simulated import Simulated
from train.data.views import Slices, all_slices

SPEC = PreprocessSpec(size_px=64, windows_hu=((0.0, 80.0),), context_slices=1)


class Copied(Simulated):
    """The same heads under other names, through another file format: rounded and with noise."""

    name = "copied"  # type: ignore[assignment]

    def read(self, job: str) -> SourceSeries:
        """Simulate, disturb, rename."""
        series = Simulated.read(self, job)
        noise = np.random.default_rng(int(job)).integers(-3, 4, series.hu.shape)
        hu = (series.hu + noise).astype(np.int16)
        name = f"renamed-{job}"
        return dataclasses.replace(
            series, hu=hu, patient=name, study=name, series=name, dataset="copied"
        )


@pytest.fixture(scope="module")
def heads(tmp_path_factory: pytest.TempPathFactory) -> Slices:
    """Sixteen simulated heads."""
    folder = tmp_path_factory.mktemp("heads")
    return all_slices(build_cache(folder, Simulated(range(16), 64), SPEC, workers=1), 0)


def test_copies_are_found_under_other_names(heads: Slices, tmp_path: Path) -> None:
    """Every copied head is found with the head that it is of, and no other."""
    copies = all_slices(build_cache(tmp_path, Copied(range(4, 8), 64), SPEC, workers=1), 0)
    found = overlaps(heads, copies)
    assert [(one.series, one.other_series) for one in found] == [
        (f"sim-{seed}", f"renamed-{seed}") for seed in range(4, 8)
    ]
    assert {one.other_dataset for one in found} == {"copied"}
    assert max(one.bits for one in found) <= MOST_BITS
    assert len(overlaps(copies, heads)) == 4


def test_different_heads_raise_no_alarm(heads: Slices) -> None:
    """Among themselves they are all different, and none is compared with itself."""
    assert overlaps(heads, heads) == []


def test_a_part_is_looked_for_as_a_whole(heads: Slices, tmp_path: Path) -> None:
    """The middle slices of a series are compared even where a view holds only others of it."""
    copies = all_slices(build_cache(tmp_path, Copied(range(5, 6), 64), SPEC, workers=1), 0)
    ends = heads.where((heads.table["slab"] == 0).to_numpy())
    assert [one.series for one in overlaps(ends, copies)] == ["sim-5"]


def test_the_hash_says_where_it_gets_brighter() -> None:
    """A ramp to the right sets every bit, to the left none; beyond the window all is flat."""
    ramp = np.tile(np.linspace(0, 80, 72), (64, 1)).astype(np.int16)
    hashes = difference_hash(np.stack([ramp, ramp[:, ::-1], ramp + 1000]))
    assert np.bitwise_count(hashes).tolist() == [64, 0, 0]
