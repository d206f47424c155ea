"""What would flatter a model: labels that metadata tell, scans on both sides of a split, and alike.

Each alarm is checked, and says that it was: what could not be checked is "unknown", never "clear".
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ichnode.domain.findings import LABELS
from train.data.overlap import Overlap, overlaps
from train.data.records import contradictory
from train.data.splits import SPLITS, split_of
from train.data.views import all_slices
from train.explore.baseline import ALARM_ABOVE, LEAST_PATIENTS, Baseline, State
from train.explore.counting import count
from train.explore.explored import Explored
from train.judge.bootstrap import DRAWS, Interval, auroc_interval, draw_counts

LEAST_POSITIVES = 30
"""Series with a kind; with fewer, its head learns little and its figures mean nothing."""

_SEED = 1


@dataclass(frozen=True, slots=True)
class Alarm:
    """One thing that was looked for.

    Attributes
    ----------
    name : str
        What it is about.
    state : {"clear", "look", "alarm", "unknown"}
    found : str
        What was found, in a sentence.
    advice : str
        What to do; "" where nothing is to be done.
    """

    name: str
    state: State
    found: str
    advice: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return all of it."""
        return {
            "name": self.name,
            "state": self.state,
            "found": self.found,
            "advice": self.advice,
        }


def look_for_alarms(
    explored: Explored, baseline: Baseline, *, key: bytes | None = None
) -> list[Alarm]:
    """Return everything that was looked for, the worst first.

    Parameters
    ----------
    baseline : Baseline
        Of series.
    key : bytes, optional
        Of the split that is trained with; without it, scans that are there twice are not told by
        split.
    """
    found = [
        _classes(explored),
        _metadata(baseline),
        _lengths(explored),
        _sources(explored),
        _patients(explored),
        _copies(explored, key),
        _contradictions(explored),
        _rare(explored),
        _hounsfield(explored),
    ]
    order = ("alarm", "look", "unknown", "clear")
    return sorted(found, key=lambda alarm: order.index(alarm.state))


def _classes(explored: Explored) -> Alarm:
    name = "Both classes"
    series, slices = count(explored.series_labels[:, 0]), count(explored.slice_labels[:, 0])
    if not series.known and not slices.known:
        return Alarm(name, "unknown", "Nothing is labelled.", "Add labels before training.")
    if not (slices.present or series.present) or not (slices.absent or series.absent):
        which = "without" if not (slices.present or series.present) else "with"
        return Alarm(
            name,
            "alarm",
            f"All that is labelled is {which} blood.",
            "Add the other class: of one nothing can be learnt, and nothing measured.",
        )
    return Alarm(
        name,
        "clear",
        f"{series.present} series are with blood and {series.absent} without; "
        f"{slices.present} and {slices.absent} slices.",
    )


def _metadata(baseline: Baseline) -> Alarm:
    strongest = ", ".join(name for name, fall in baseline.importances[:3] if fall > 0.005)
    return Alarm(
        "Metadata that tell the label",
        baseline.state,
        baseline.sentence(),
        ""
        if baseline.state in ("clear", "unknown")
        else f"Look at {strongest or 'the metadata'}: measure by source and scanner, and balance "
        "what is learnt from.",
    )


def _lengths(explored: Explored) -> Alarm:
    name = "Length of a series"
    area = _area(explored, explored.series["slices"].to_numpy(np.float64))
    if area is None:
        return Alarm(name, "unknown", "Too few labelled series to say.")
    told = f"Slices per series alone tell blood with an AUROC of {_shown(area)}."
    state = _two_sided(area)
    advice = "Series with and without blood were cut or chosen differently; find out how."
    return Alarm(name, state, told, "" if state == "clear" else advice)


def _sources(explored: Explored) -> Alarm:
    name = "Sources that tell the label"
    datasets = explored.series["dataset"]
    if datasets.nunique() == 1:
        return Alarm(name, "clear", "There is one source.")
    share = explored.series.groupby("dataset")["any"].mean()
    area = _area(explored, datasets.map(share).to_numpy(np.float64))
    if area is None:
        return Alarm(name, "unknown", "Too few labelled series to say.")
    shares = ", ".join(
        f"{source} {'unknown' if math.isnan(part) else f'{100 * part:.0f} %'}"
        for source, part in share.items()
    )
    state = _two_sided(area)
    return Alarm(
        name,
        state,
        f"Series with blood by source: {shares}; the source alone has an AUROC of {_shown(area)}.",
        "" if state == "clear" else "Measure each source by itself; pooled figures flatter.",
    )


def _patients(explored: Explored) -> Alarm:
    name = "One patient, one key"
    wrong = []
    for column, what in (("study", "studies"), ("series", "series")):
        owners = explored.series.groupby(column)["patient"].nunique()
        if many := int((owners > 1).sum()):
            wrong.append(f"{many} {what}")
    if wrong:
        return Alarm(
            name,
            "alarm",
            f"{' and '.join(wrong)} are under more than one patient.",
            "A split by patients tears them apart: use one key of pseudonyms for all sources.",
        )
    patients = explored.series["patient"].nunique()
    several = int((explored.series.groupby("patient").size() > 1).sum())
    return Alarm(
        name, "clear", f"{patients} patients, {several} of them with more than one series."
    )


def _copies(explored: Explored, key: bytes | None) -> Alarm:
    name = "One scan twice"
    if explored.cache is None:
        return Alarm(name, "unknown", "Without pixels copies are not seen.")
    view = all_slices(explored.cache, 0)
    patient_of = {
        (str(row.dataset), str(row.series)): str(row.patient)
        for row in explored.series[["dataset", "series", "patient"]].itertuples(index=False)
    }
    pairs = _pairs(overlaps(view, view))
    if not pairs:
        return Alarm(name, "clear", "No two series show the same scan (hashes of middle slices).")
    apart = [(a, b) for a, b in pairs if patient_of[a] != patient_of[b]]
    if not apart:
        return Alarm(
            name,
            "look",
            f"{len(pairs)} pairs of series show one scan, always under one patient.",
            "They stay together in a split; they count twice in every figure.",
        )
    return Alarm(
        name,
        "alarm",
        f"{len(apart)} pairs of series show one scan under two patients"
        + _torn(apart, patient_of, key)
        + ".",
        "Leave one of each out, or add both sources with one key of pseudonyms.",
    )


def _pairs(found: list[Overlap]) -> list[tuple[tuple[str, str], tuple[str, str]]]:
    """Return each pair once, whichever way round it was found."""
    both = [((o.dataset, o.series), (o.other_dataset, o.other_series)) for o in found]
    return sorted({(min(pair), max(pair)) for pair in both})


def _torn(
    apart: list[tuple[tuple[str, str], tuple[str, str]]],
    patient_of: Mapping[tuple[str, str], str],
    key: bytes | None,
) -> str:
    if key is None:
        return ""
    torn = sum(split_of(patient_of[a], key) != split_of(patient_of[b], key) for a, b in apart)
    return f", {torn} of them in two of the splits {', '.join(SPLITS)}"


def _contradictions(explored: Explored) -> Alarm:
    name = "Labels that contradict each other"
    slices = int(contradictory(explored.slice_labels).sum())
    series = int(contradictory(explored.series_labels).sum())
    shown = explored.slices.groupby("series_number", sort=True)[list(LABELS)].max()
    denied = (shown.to_numpy(np.float32) == 1) & (explored.series_labels == 0)
    against = int(denied.any(axis=1).sum())
    if not (slices or series or against):
        return Alarm(name, "clear", '"Any" is there exactly where one of the kinds is.')
    return Alarm(
        name,
        "alarm",
        f'"Any" does not fit the kinds in {slices} slices and {series} series; {against} series '
        "are said to lack what a slice of theirs shows.",
        "Correct the labels; do not guess which of the two is right.",
    )


def _rare(explored: Explored) -> Alarm:
    name = "Kinds that are rare"
    labels = explored.series_labels
    few = {
        label: int((labels[:, index] == 1).sum())
        for index, label in enumerate(LABELS)
        if (labels[:, index] == 1).sum() < LEAST_POSITIVES
    }
    if np.isnan(labels).all():
        return Alarm(name, "unknown", "Nothing is labelled.")
    if not few:
        return Alarm(name, "clear", f"Every label has at least {LEAST_POSITIVES} series.")
    listed = ", ".join(f"{label} {many}" for label, many in few.items())
    return Alarm(
        name,
        "look",
        f"Fewer than {LEAST_POSITIVES} series show: {listed}.",
        "Figures of these labels mean little; add cases, or say so.",
    )


def _hounsfield(explored: Explored) -> Alarm:
    name = "Hounsfield units"
    suspect = int(explored.series["hu_suspect"].sum())
    repaired = int(explored.series["repaired"].sum())
    told = f"{repaired} series were wrapped and put right" if repaired else "No series was wrapped"
    if not suspect:
        return Alarm(name, "clear", f"{told}; none is in doubt.")
    return Alarm(
        name,
        "look",
        f"{told}; of {suspect} the tags are those of wrapped values, and the pixels do not prove "
        "it.",
        "Look at some of them; leave them out where air is bright.",
    )


def _area(explored: Explored, scores: npt.NDArray[np.float64]) -> Interval | None:
    """Return the AUROC of a number for blood in a series; None with too few patients."""
    truth = explored.series["any"].to_numpy(np.float64)
    owner = pd.factorize(explored.series["patient"])[0].astype(np.int64)
    known = ~np.isnan(scores)
    sides = [len(np.unique(owner[known & (truth == side)])) for side in (0, 1)]
    if min(sides) < LEAST_PATIENTS:
        return None
    counts = draw_counts(int(owner.max()) + 1, DRAWS, _SEED)
    return auroc_interval(counts, owner[known], scores[known], truth[known])


def _two_sided(area: Interval) -> State:
    """Judge a number that may tell by being high or by being low."""
    if area.low > ALARM_ABOVE or area.high < 1 - ALARM_ABOVE:
        return "alarm"
    return "look" if abs(area.value - 0.5) > ALARM_ABOVE - 0.5 else "clear"


def _shown(area: Interval) -> str:
    return f"{area.value:.3f} [{area.low:.3f}, {area.high:.3f}]"
