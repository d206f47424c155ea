"""What there is, counted: labels, combinations of kinds, groups of scanners, what a filter drops.

Counts are of slices or series; shares are of those whose label is known. Intervals are Wilson's and
count series, of which a patient rarely has two.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ichnode.domain.findings import LABELS
from ichnode.domain.intervals import wilson
from train.data.cleaning import LEAST_BRAIN
from train.explore.explored import Explored
from train.judge.subgroups import NOT_STATED

Labels = npt.NDArray[np.float32]
_MOST_GROUPS = 8


@dataclass(frozen=True, slots=True)
class Count:
    """How many have a label, have it not, and of how many nobody knows."""

    present: int
    absent: int
    unknown: int

    @property
    def known(self) -> int:
        """Of how many it is known."""
        return self.present + self.absent

    @property
    def share(self) -> float | None:
        """The part of the known that have it; None where none is known."""
        return self.present / self.known if self.known else None

    @property
    def interval(self) -> tuple[float, float]:
        """95 %, of the share."""
        return wilson(self.present, self.known)

    def as_json(self) -> dict[str, Any]:
        """Return counts and share."""
        share = None if self.share is None else round(self.share, 5)
        return {
            "present": self.present,
            "absent": self.absent,
            "unknown": self.unknown,
            "share": share,
        }


@dataclass(frozen=True, slots=True)
class Group:
    """Some series that have something in common."""

    name: str
    series: int
    slices: int
    patients: int
    with_blood: Count  # of the series
    slices_with_blood: Count
    mostly: str  # the source and the maker that most of them are from

    def as_json(self) -> dict[str, Any]:
        """Return all of it."""
        return {
            "name": self.name,
            "patients": self.patients,
            "series": self.series,
            "slices": self.slices,
            "series_with_blood": self.with_blood.as_json(),
            "slices_with_blood": self.slices_with_blood.as_json(),
            "mostly": self.mostly,
        }


def count(labels: Labels) -> Count:
    """Count one label: (n,), 1, 0 or NaN."""
    return Count(
        present=int((labels == 1).sum()),
        absent=int((labels == 0).sum()),
        unknown=int(np.isnan(labels).sum()),
    )


def count_labels(labels: Labels) -> dict[str, Count]:
    """Count each label of (n, label)."""
    return {label: count(labels[:, index]) for index, label in enumerate(LABELS)}


def combinations(labels: Labels) -> list[tuple[tuple[str, ...], int]]:
    """Return which kinds occur together and how often, the most frequent first.

    Parameters
    ----------
    labels : ndarray, float32, (n, label)
        Those of which a kind is not known are left out.
    """
    kinds = labels[~np.isnan(labels[:, 1:]).any(axis=1), 1:]
    seen = Counter(tuple(row) for row in (kinds[kinds.any(axis=1)] == 1).tolist())
    named = [
        (tuple(label for label, there in zip(LABELS[1:], row, strict=True) if there), many)
        for row, many in seen.items()
    ]
    return sorted(named, key=lambda one: (-one[1], one[0]))


def groups_by(explored: Explored, names: Sequence[str]) -> list[Group]:
    """Return the series of an exploration by group, the largest group first.

    Parameters
    ----------
    names : sequence of str
        The group of each series; beyond eight groups the rest is "others", and what is not stated
        comes last.
    """
    stated = pd.Series([name if name else NOT_STATED for name in names])
    frequent = stated[stated != NOT_STATED].value_counts().sort_values(
        ascending=False, kind="stable"
    )  # fmt: skip
    if len(frequent) > _MOST_GROUPS:
        rest = set(frequent.index[_MOST_GROUPS - 1 :])
        stated = stated.where(~stated.isin(rest), "others")
        frequent = stated[~stated.isin([NOT_STATED, "others"])].value_counts()
    order = [*frequent.index, "others", NOT_STATED]
    return [
        one for name in order if (one := _group(explored, name, (stated == name).to_numpy())).series
    ]


def _group(explored: Explored, name: str, chosen: npt.NDArray[np.bool_]) -> Group:
    series = explored.series[chosen]
    inside = explored.slices["series_number"].isin(set(series["series_number"])).to_numpy()
    return Group(
        name=str(name),
        series=len(series),
        slices=int(inside.sum()),
        patients=int(series["patient"].nunique()),
        with_blood=count(explored.series_labels[chosen, 0]),
        slices_with_blood=count(explored.slice_labels[inside, 0]),
        mostly=", ".join(_most(series[column]) for column in ("dataset", "maker"))
        if chosen.any()
        else "",
    )


def _most(names: pd.Series) -> str:
    """Return the most frequent name and its share."""
    sizes = names.value_counts()
    return f"{sizes.index[0]} {100 * sizes.iloc[0] / len(names):.0f} %"


def bits(explored: Explored) -> list[str]:
    """Return how many bits the pixels of each series were stored in."""
    stated = explored.series["bits_stored"].tolist()
    return [NOT_STATED if np.isnan(one) else f"{one:.0f} bits" for one in stated]


def storage(explored: Explored) -> list[str]:
    """Return how the pixels of each series were stored, in words."""
    columns = ("bits_stored", "pixel_representation", "intercept_hu")
    rows = explored.series[list(columns)].itertuples(index=False)
    return [_stored(bits, signed, intercept_hu) for bits, signed, intercept_hu in rows]


def _stored(bits: float, signed: float, intercept_hu: float) -> str:
    if np.isnan(bits):
        return NOT_STATED
    parts = [f"{bits:.0f} bits"]
    if not np.isnan(signed):
        parts.append("signed" if signed else "unsigned")
    if not np.isnan(intercept_hu):
        parts.append(f"intercept {intercept_hu:g}")
    return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class Filtered:
    """What a filter for slices without brain would drop."""

    preset: str
    least_brain: float
    dropped: int
    positives: dict[str, int]  # by label, those that are known to show it
    positives_dropped: dict[str, int]

    def as_json(self) -> dict[str, Any]:
        """Return all of it."""
        return {
            "least_brain": self.least_brain,
            "slices_dropped": self.dropped,
            "positives_dropped": self.positives_dropped,
        }


def filtered(explored: Explored) -> list[Filtered]:
    """Return what each preset of `train.data.cleaning` would drop, the mildest first."""
    fraction, labels = explored.slices["brain_fraction"].to_numpy(), explored.slice_labels
    found = []
    for preset in ("careful", "paper"):
        gone = fraction < LEAST_BRAIN[preset]
        found.append(
            Filtered(
                preset=preset,
                least_brain=LEAST_BRAIN[preset],
                dropped=int(gone.sum()),
                positives={la: int((labels[:, i] == 1).sum()) for i, la in enumerate(LABELS)},
                positives_dropped={
                    la: int((labels[gone, i] == 1).sum()) for i, la in enumerate(LABELS)
                },
            )
        )
    return found


def left_out(explored: Explored) -> list[tuple[str, str, str, int]]:
    """Return dataset, what ("series" or "slices"), reason and how many were left out."""
    table = explored.quarantine
    if table.empty:
        return []
    what = np.where(table["slice"] == "", "series", "slices")
    sizes = table.assign(what=what).groupby(["dataset", "what", "reason"]).size()
    rows = [(str(d), str(w), str(r), int(n)) for (d, w, r), n in sizes.items()]
    return sorted(rows, key=lambda row: (-row[3], row))
