"""Whole simulated studies as files, and which seeds belong to whom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from pydicom.uid import ExplicitVRLittleEndian

from ichnode.domain.findings import Label
from ichnode.phantom.companions import write_dose_report, write_localizer, write_non_head
from ichnode.phantom.dicom import write_series
from ichnode.phantom.head import SimulatedHead, simulate_head
from ichnode.phantom.identity import Identity

TRAINING_SEEDS = range(0, 100_000)
"""Heads that a model may learn from."""

HOLDOUT_SEEDS = range(100_000, 200_000)
"""Heads that a model is measured on and never learns from."""

DEMONSTRATION_SEEDS = range(900_000, 1_000_000)
"""Heads for the demonstration and the tests: neither learnt from nor measured on."""

DEMO_SEEDS = range(910_000, 910_012)
"""The dozen studies of ``ichnode demo``."""

PLAIN_BLEED_ML = 8.0
"""Bleeds that are asked for by name are at least this large: plain to see."""

Extra: TypeAlias = Literal["localizer", "dose_report", "dose_sr", "bone", "non_head"]
SERIES_NUMBERS: dict[str, int] = {
    "localizer": 1,
    "head": 2,
    "bone": 3,
    "non_head": 4,
    "dose_report": 999,
    "dose_sr": 998,
}


@dataclass(frozen=True, slots=True)
class StudyFiles:
    """A written study and its truth."""

    seed: int
    identity: Identity
    series: dict[str, list[Path]]  # "head", then the extras, each in anatomical order
    head: SimulatedHead = field(repr=False)

    @property
    def positive(self) -> bool:
        """Say whether the head shows blood."""
        return self.head.positive

    @property
    def kinds(self) -> tuple[Label, ...]:
        """Return the kinds of bleed that can be seen."""
        return tuple(self.head.volumes_ml)

    @property
    def files(self) -> list[Path]:
        """Return every file of the study, in the order in which a scanner sends them."""
        order = sorted(self.series, key=lambda name: SERIES_NUMBERS[name])
        return [path for name in order for path in self.series[name]]

    def series_uid(self, name: str) -> str:
        """Return the Series Instance UID of one of `series`."""
        return self.identity.series_uid(SERIES_NUMBERS[name])


def write_study(
    folder: Path,
    seed: int,
    *,
    bleeds: Sequence[Label] | None = None,
    extras: Sequence[Extra] = ("localizer", "dose_report", "bone"),
    identity: Identity | None = None,
    slices: int | None = None,
    size_px: int = 512,
    least_bleed_ml: float = PLAIN_BLEED_ML,
    transfer_syntax: str = ExplicitVRLittleEndian,
) -> StudyFiles:
    """Write a head CT study with what scanners send along, one folder per series.

    Parameters
    ----------
    folder : Path
        Created where missing.
    seed : int
        Decides everything that is not given.
    bleeds : sequence of Label, optional
        As for `simulate_head`.
    extras : sequence of str
        Series beside the head: localizer, dose_report (Secondary Capture), dose_sr (X-Ray
        Radiation Dose SR), bone, non_head.
    """
    head = simulate_head(
        seed, bleeds=bleeds, slices=slices, size_px=size_px, least_bleed_ml=least_bleed_ml
    )
    who = identity or Identity.simulated(seed, age_years=head.age_years)
    series = {
        "head": write_series(head, folder / "head", identity=who, transfer_syntax=transfer_syntax)
    }
    for extra in extras:
        series[extra] = _write_extra(extra, folder / extra, head, who, bleeds, least_bleed_ml)
    return StudyFiles(seed=seed, identity=who, series=series, head=head)


def _write_extra(
    extra: Extra,
    folder: Path,
    head: SimulatedHead,
    who: Identity,
    bleeds: Sequence[Label] | None,
    least_bleed_ml: float,
) -> list[Path]:
    number = SERIES_NUMBERS[extra]
    if extra == "localizer":
        return write_localizer(folder, identity=who, series_number=number, seed=head.seed)
    if extra in ("dose_report", "dose_sr"):
        form: Literal["sr", "sc"] = "sr" if extra == "dose_sr" else "sc"
        return write_dose_report(folder, identity=who, series_number=number, form=form)
    if extra == "non_head":
        return write_non_head(folder, identity=who, series_number=number, seed=head.seed)
    bone = simulate_head(
        head.seed,
        bleeds=bleeds,
        slices=head.hu.shape[0],
        spacing_mm=head.spacing_mm,
        size_px=head.hu.shape[1],
        kernel="bone",
        least_bleed_ml=least_bleed_ml,
    )
    return write_series(bone, folder, identity=who, series_number=number)
