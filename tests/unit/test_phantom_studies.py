"""Whole simulated studies, and the seeds that belong to training, measurement and demonstration."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pydicom

from ichnode.imaging.header import read_header
from ichnode.imaging.volume import read_series
from ichnode.phantom.studies import (
    DEMO_SEEDS,
    DEMONSTRATION_SEEDS,
    HOLDOUT_SEEDS,
    TRAINING_SEEDS,
    write_study,
)

SEED = 900_501


def test_no_seed_is_for_two_things() -> None:
    """Training, measurement and demonstration never share a head."""
    ranges = (TRAINING_SEEDS, HOLDOUT_SEEDS, DEMONSTRATION_SEEDS)
    assert all(a.stop <= b.start for a, b in pairwise(ranges))
    assert DEMO_SEEDS.start in DEMONSTRATION_SEEDS
    assert DEMO_SEEDS[-1] in DEMONSTRATION_SEEDS


def test_a_study_has_its_series_and_its_truth(tmp_path: Path) -> None:
    """Head, localizer, dose report and bone series share the study and nothing else."""
    study = write_study(tmp_path, SEED, bleeds=("epidural",), slices=8, size_px=64)
    assert set(study.series) == {"head", "localizer", "dose_report", "bone"}
    assert study.kinds == ("epidural",)
    assert study.positive
    sets = {name: pydicom.dcmread(paths[0]) for name, paths in study.series.items()}
    assert {ds.StudyInstanceUID for ds in sets.values()} == {study.identity.study_uid}
    assert len({ds.SeriesInstanceUID for ds in sets.values()}) == 4
    assert sets["head"].SeriesInstanceUID == study.series_uid("head")
    assert len(study.files) == 8 + 8 + 2
    assert sets["bone"].ConvolutionKernel in ("BONE", "H60s", "D", "FC30")


def test_a_series_is_read_back_by_the_node(tmp_path: Path) -> None:
    """The node's own reader returns the simulated HU inside the circle, with the geometry."""
    study = write_study(tmp_path, SEED, bleeds=(), extras=(), size_px=128)
    paths = study.series["head"]
    volume = read_series([(read_header(path), path) for path in reversed(paths)], complete=True)
    head = study.head
    assert np.array_equal(volume.hu[:, 30:-30, 30:-30], head.hu[:, 30:-30, 30:-30])
    assert np.allclose(volume.spacing_mm, head.spacing_mm, atol=1e-3)
    assert abs(volume.tilt_deg - head.tilt_deg) < 0.1
    assert volume.gaps == 0
