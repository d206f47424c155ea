"""Simulated heads as a source: unlimited, with the truth of every voxel, and of nobody."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ichnode.phantom import simulate_head
from ichnode.phantom.dicom import technique_of
from ichnode.phantom.identity import MANUFACTURER, MODEL_NAME
from ichnode.phantom.studies import HOLDOUT_SEEDS, TRAINING_SEEDS
from train.data.records import HELD_OUT, UNKNOWN, Facts, Licence, SourceSeries
from train.errors import TrainingError

SIZES_PX = (256, 256, 256, 512)  # in turn by seed: coarser ones are quicker to make
_RANGE = re.compile(r"(\d+):(\d+)")


@dataclass(frozen=True, slots=True)
class Simulated:
    """Heads of consecutive seeds.

    Attributes
    ----------
    seeds : range
        Wholly within `ichnode.phantom.studies.TRAINING_SEEDS` or `HOLDOUT_SEEDS`.
    size_px : int, optional
        Rows and columns of the simulated scans; by default in turn as in `SIZES_PX`.
    """

    seeds: range
    size_px: int | None = None

    @property
    def name(self) -> str:
        """``simulated``, or ``simulated-holdout`` for heads that nothing may learn from."""
        return f"simulated{HELD_OUT if self.seeds.start in HOLDOUT_SEEDS else ''}"

    @property
    def licence(self) -> Licence:
        """Ours: no scan of a person went into them."""
        return Licence("Apache-2.0", non_commercial=False, cite="Simulated by ichnode.phantom.")

    def jobs(self) -> Sequence[str]:
        """Return the seeds."""
        return [str(seed) for seed in self.seeds]

    def read(self, job: str) -> SourceSeries:
        """Simulate one head."""
        seed = int(job)
        head = simulate_head(seed, size_px=self.size_px or SIZES_PX[seed % len(SIZES_PX)])
        slices, rows, columns = head.hu.shape
        key = f"sim-{seed}"
        return SourceSeries(
            dataset=self.name,
            patient=key,
            study=key,
            series=key,
            hu=head.hu,
            spacing_mm=head.spacing_mm,
            positions_mm=head.spacing_mm[0] * np.arange(slices, dtype=np.float64),
            slice_keys=tuple(f"{key}-{number:03d}" for number in range(slices)),
            slice_labels=head.labels.astype(np.float32),
            series_labels=np.full(head.labels.shape[1], UNKNOWN),
            facts=Facts(
                manufacturer=MANUFACTURER,
                model_name=MODEL_NAME,
                kernel=technique_of(head, None).kernel,
                thickness_mm=head.thickness_mm,
                age_years=round(head.age_years, 1),
                rows=rows,
                columns=columns,
            ),
            kinds=head.mask,
            label_source="simulation",
        )


def open_source(path: str, labels: Path | None, key: bytes) -> Simulated:  # noqa: ARG001 - the form that `known` asks of every source
    """Return the heads of a range of seeds, written ``0:300``.

    Raises
    ------
    TrainingError
        When it is no range, or one that nothing may be learnt from or measured on.
    """
    return Simulated(seeds_of(path, labels))


def seeds_of(text: str, labels: Path | None) -> range:
    """Return the seeds written ``0:300``: all to train on, or all to measure on.

    Raises
    ------
    TrainingError
        When it is no such range, or labels are given for heads that know theirs.
    """
    if labels is not None:
        raise TrainingError("Simulated heads know their labels; leave --labels out.")
    match = _RANGE.fullmatch(text.strip())
    if match is None or int(match[1]) >= int(match[2]):
        raise TrainingError("The heads to simulate are a range of seeds such as 0:300.")
    seeds = range(int(match[1]), int(match[2]))
    if not any(
        seeds.start in allowed and seeds[-1] in allowed
        for allowed in (TRAINING_SEEDS, HOLDOUT_SEEDS)
    ):
        raise TrainingError(
            f"Seeds to train on lie in {TRAINING_SEEDS.start}:{TRAINING_SEEDS.stop}, seeds to "
            f"measure on in {HOLDOUT_SEEDS.start}:{HOLDOUT_SEEDS.stop}, and a range keeps to one "
            "of them."
        )
    return seeds
