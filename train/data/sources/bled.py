"""Series without haemorrhage of any source, with simulated bleeds put into them.

For sites that have many negatives and few positives: anatomy, scanner and noise are real, the blood
is not, and says so in the name of the dataset and in the source of its labels.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ichnode.domain.findings import LABELS
from ichnode.phantom.randomised.bleeds import draw_kinds
from ichnode.phantom.randomised.insertion import insert_bleeds
from train.data.records import BLED, UNKNOWN, Licence, Source, SourceSeries, series_truth
from train.errors import Unusable

MOST_VOXELS = 16_000_000  # of a series, 60 slices of 512 x 512: more than 2 GB at work


@dataclass(frozen=True, slots=True)
class Bled:
    """A source in other words.

    Attributes
    ----------
    source : Source
        What is known to be negative there, as a whole, is taken; the rest is left out.
    versions : int
        How many times each series is bled, each time otherwise.
    """

    source: Source
    versions: int

    @property
    def name(self) -> str:
        """That of the source, with ``-bled``; what was held out stays so."""
        return f"{self.source.name}{BLED}"

    @property
    def labels_digest(self) -> str:
        """Those of the source, so that a corrected negative is noticed."""
        return str(getattr(self.source, "labels_digest", ""))

    @property
    def remarks(self) -> Sequence[str]:
        """Those of the source."""
        return tuple(getattr(self.source, "remarks", ()))

    @property
    def licence(self) -> Licence:
        """Those of the source hold for what is made of it."""
        return self.source.licence

    def jobs(self) -> Sequence[str]:
        """Return each job of the source, once a version."""
        return [f"{number}/{job}" for job in self.source.jobs() for number in range(self.versions)]

    def read(self, job: str) -> SourceSeries:
        """Read a series and bleed it."""
        number, _, inner = job.partition("/")
        series = self.source.read(inner)
        if series_truth(series)[0] != 0:
            raise Unusable("not known to be without haemorrhage")
        if series.hu.size > MOST_VOXELS:
            raise Unusable("too many slices to put bleeds into", str(len(series.hu)))
        seed = int.from_bytes(hashlib.sha256(f"{series.series}/{number}".encode()).digest()[:4])
        rng = np.random.default_rng(seed)
        kinds = draw_kinds(rng)
        while not kinds:
            kinds = draw_kinds(rng)
        try:
            bled = insert_bleeds(series.hu, series.spacing_mm, seed, kinds=kinds)
        except ValueError as reason:
            raise Unusable("no place for a bleed", str(reason)) from reason
        return dataclasses.replace(
            series,
            dataset=self.name,
            series=f"{series.series}+{number}",
            hu=bled.hu,
            slice_labels=bled.labels,
            series_labels=np.full(len(LABELS), UNKNOWN),
            kinds=bled.kinds,
            label_source="simulated bleed in a scan without haemorrhage",
        )
