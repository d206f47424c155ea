"""Read CT slices for training: leniently, and saying what was left out and why.

A node refuses a whole series where something is odd; training takes what can be used of it. There
is no least number of slices. `read_slice` and `read_files` read, `stack` puts in order, and
`series_of` makes of both what goes into a cache.
"""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from train.data.images import ReadSlice, images_of
from train.data.records import Facts, LeftOut, SourceSeries
from train.data.repair import RepairPolicy, evidence, unwrapped
from train.data.stacking import Stacked, stack
from train.errors import Unusable

__all__ = [
    "LeftOut",
    "ReadSlice",
    "Reading",
    "RepairPolicy",
    "Stacked",
    "pseudonym",
    "read_files",
    "read_slice",
    "repaired",
    "series_of",
    "stack",
]


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """What came out of some files."""

    slices: tuple[ReadSlice, ...] = field(repr=False)
    left_out: tuple[LeftOut, ...]


def pseudonym(*parts: str, key: bytes = b"") -> str:
    """Return a name that is always the same for the same parts and says nothing of them.

    Without a key anybody who guesses the parts (patient numbers are short) can check the guess; a
    source of patients gives one.

    Returns
    -------
    str
        16 hexadecimal digits of an HMAC-SHA256.
    """
    return hmac.new(key, "|".join(parts).encode(), hashlib.sha256).hexdigest()[:16]


def read_slice(path: Path, *, repair: RepairPolicy = RepairPolicy.BY_EVIDENCE) -> ReadSlice:
    """Read a single-frame CT image.

    Parameters
    ----------
    path : Path
    repair : RepairPolicy
        By default a wrapped image is put right where this one image alone proves it; `read_files`
        asks the whole series.

    Raises
    ------
    Unusable
        When the file is no DICOM file or cut short, its values are no Hounsfield units, or the
        image shows nothing.
    TrainingError
        When the disk does not let us read.
    """
    reading = read_files([path], repair=repair)
    if reading.left_out:
        raise Unusable(reading.left_out[0].reason, reading.left_out[0].detail)
    if len(reading.slices) != 1:
        raise Unusable("multi-frame", f"{len(reading.slices)} frames")
    return reading.slices[0]


def read_files(
    paths: Iterable[Path], *, repair: RepairPolicy = RepairPolicy.BY_EVIDENCE
) -> Reading:
    """Read every image of some files of one series, and say which could not be used.

    The same image in two files is one. Of two different ones under one UID the first by file name
    is kept.

    Raises
    ------
    TrainingError
        When the disk does not let us read.
    """
    kept: dict[str, ReadSlice] = {}
    left_out: list[LeftOut] = []
    for path in sorted(paths):
        for key, outcome in images_of(path):
            if isinstance(outcome, Unusable):
                left_out.append(LeftOut(key, outcome.reason, outcome.detail))
            elif key not in kept:
                kept[key] = outcome
            else:
                same = np.array_equal(outcome.hu, kept[key].hu)
                left_out.append(LeftOut(key, "duplicate" if same else "conflicting pixels"))
    slices = list(kept.values())
    if repair is RepairPolicy.BY_EVIDENCE:
        slices = repaired(slices)
    return Reading(tuple(slices), tuple(left_out))


def repaired(slices: Sequence[ReadSlice]) -> list[ReadSlice]:
    """Put wrapped slices right where together they prove to be wrapped; flag them where not."""
    doubtful = [one for one in slices if one.raw is not None]
    if not doubtful:
        return list(slices)
    raws = [one.raw for one in doubtful if one.raw is not None]
    wrapped = evidence(raws, [one.spacing_mm for one in doubtful]).wrapped
    return [_settled(one, wrapped) for one in slices]


def _settled(one: ReadSlice, wrapped: bool) -> ReadSlice:
    if one.raw is None:
        return one
    facts = dataclasses.replace(one.facts, repaired=wrapped, hu_suspect=not wrapped)
    hu = unwrapped(one.raw) if wrapped else one.hu
    return ReadSlice(hu=hu, place=one.place, facts=facts)


def series_of(
    reading: Reading,
    *,
    dataset: str,
    patient: str,
    study: str,
    series: str,
    labels_of: Callable[[ReadSlice], npt.NDArray[np.float32]],
    series_labels: npt.NDArray[np.float32],
    label_source: str,
    key_of: Callable[[ReadSlice], str] = lambda one: one.sop_uid,
) -> SourceSeries:
    """Put the slices of a series in order and beside their labels.

    Parameters
    ----------
    reading : Reading
        What `read_files` made of the files of one series.
    dataset, patient, study, series, label_source : str
        See `SourceSeries`; pseudonyms.
    labels_of : callable
        The labels (label,) of a slice, NaN where not known.
    series_labels : ndarray, float32, (label,)
    key_of : callable
        What the source calls a slice; by default its UID.

    Raises
    ------
    Unusable
        When nothing can be stacked.
    """
    if not reading.slices and reading.left_out:
        raise Unusable(reading.left_out[0].reason, f"all of {len(reading.left_out)} files")
    stacked = stack(reading.slices)
    used = [reading.slices[index] for index in stacked.order]
    unused = set(range(len(reading.slices))) - set(stacked.order)
    strays = [LeftOut(key_of(reading.slices[i]), "does not fit the others") for i in sorted(unused)]
    return SourceSeries(
        dataset=dataset,
        patient=patient,
        study=study,
        series=series,
        hu=stacked.hu,
        spacing_mm=stacked.spacing_mm,
        positions_mm=stacked.positions_mm,
        slice_keys=tuple(key_of(one) for one in used),
        slice_labels=np.stack([labels_of(one) for one in used]),
        series_labels=series_labels,
        facts=facts_together(used),
        label_source=label_source,
        left_out=(*reading.left_out, *strays),
    )


def facts_together(slices: Sequence[ReadSlice]) -> Facts:
    """Return the facts of a series: those of its lowest slice, and what was done to any."""
    return dataclasses.replace(
        slices[0].facts,
        repaired=any(one.facts.repaired for one in slices),
        hu_suspect=any(one.facts.hu_suspect for one in slices),
    )
