"""Which series of a study the labels of the study belong to: the one that the node would trust."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ichnode.domain.errors import NotAnalysable, Transient
from ichnode.domain.series import Header
from ichnode.imaging.selection import judge_headers, suitability
from ichnode.imaging.volume import CtVolume, read_series
from train.data.images import images_of
from train.data.records import Facts
from train.errors import TrainingError, Unusable

Files = Sequence[tuple[Header, Path]]


@dataclass(frozen=True, slots=True, eq=False)
class Chosen:
    """The series of a study that suits best.

    Attributes
    ----------
    volume : CtVolume
        As the node reads it.
    facts : Facts
    score : float
        See `ichnode.imaging.selection.suitability`.
    """

    series_uid: str
    volume: CtVolume = field(repr=False)
    facts: Facts = field(repr=False)
    score: float


def most_suitable(series: Mapping[str, Files]) -> Chosen:
    """Return the series of one study that suits best, by the node's own gates and score.

    Among equals the thicker slices win, then the more of them, then the UID.

    Parameters
    ----------
    series : mapping
        Series Instance UID to the headers and files of the series.

    Raises
    ------
    Unusable
        When none passes; the detail counts the reasons.
    """
    best: tuple[tuple[float, float, int, str], CtVolume] | None = None
    refusals: Counter[str] = Counter()
    for uid in sorted(series):
        try:
            rank, volume = _judged(uid, series[uid])
        except NotAnalysable as refusal:
            refusals[refusal.reason.code.replace("_", " ")] += 1
            continue
        except Transient as failure:
            raise TrainingError(f"{failure} Try again when the disk can be read.") from failure
        if best is None or rank > best[0]:
            best = (rank, volume)
    if best is None:
        said = ", ".join(f"{count} {reason}" for reason, count in sorted(refusals.items()))
        raise Unusable("no suitable series", said)
    (score, _, _, uid), volume = best
    return Chosen(uid, volume, _facts(series[uid], volume), score)


def _judged(uid: str, files: Files) -> tuple[tuple[float, float, int, str], CtVolume]:
    headers = [header for header, _ in files]
    judge_headers(headers)
    volume = read_series(files, complete=True)
    score, _ = suitability(headers, volume)
    stated = [h.slice_thickness_mm for h in headers if h.slice_thickness_mm is not None]
    thickness_mm = float(np.median(stated)) if stated else volume.spacing_mm[0]
    return (score, thickness_mm, len(volume.hu), uid), volume


def _facts(files: Files, volume: CtVolume) -> Facts:
    """Return the facts of the lowest slice that was used."""
    first = volume.sop_uids[0]
    path = next(path for header, path in files if header.sop_uid == first)
    for _, image in images_of(path):
        if not isinstance(image, Unusable):
            return image.facts
    return Facts()
