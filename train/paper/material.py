"""What the paper's steps work on: a cache, cleaned, its patients parted."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ichnode.nets.manifest import PreprocessSpec
from ichnode.spool import write_durable
from train.data.cache import Cache, build_cache, open_cache
from train.data.cleaning import CleaningReport, clean
from train.data.records import Source
from train.data.sources.known import open_known
from train.data.sources.simulated import Simulated
from train.data.splits import open_key, split_slices
from train.data.views import Slices, all_slices
from train.errors import TrainingError
from train.learn.run_folder import SplitKey, split_key
from train.paper.settings import Scale, Settings

SHARES = (0.7, 0.0, 0.1, 0.2)
"""To learn from; none to select on, as the paper has none; to calibrate on; to validate on."""
QUICK_SHARES = (0.5, 0.0, 0.25, 0.25)
_QUICK_SCAN_PX = 96  # of simulated scans, so that they are made quickly


@dataclass(frozen=True, slots=True, eq=False)
class Material:
    """What there is.

    Attributes
    ----------
    learnt, validation : Slices
        Cleaned as in the paper; of different patients.
    to_calibrate : Slices
        Of others again, and whole: a bundle is calibrated on what it will see.
    whole_validation : Slices
        Not cleaned.
    cleaning : tuple of CleaningReport
        What the presets ``paper`` and ``careful`` drop.
    simulated : bool
        Whether all of it is simulated.
    """

    cache: Cache = field(repr=False)
    split: SplitKey
    learnt: Slices = field(repr=False)
    validation: Slices = field(repr=False)
    to_calibrate: Slices = field(repr=False)
    whole_validation: Slices = field(repr=False)
    cleaning: tuple[CleaningReport, ...]
    simulated: bool


def open_material(data: str, out: Path, settings: Settings, scale: Scale) -> Material:
    """Open a cache, or read a dataset into one, and clean and part it.

    Parameters
    ----------
    data : str
        Folder of a cache, or ``SOURCE:PATH`` as `train.data.sources.known` has them.

    Raises
    ------
    TrainingError
        When it is neither, or nothing to learn from is left.
    """
    cache = _opened(data, out, settings, scale)
    slices = all_slices(cache, 0)
    numbers = np.unique(slices.series)[: scale.series]
    slices = slices.where(np.isin(slices.series, numbers))
    cleaned, report = clean(slices, "paper")
    reference = split_key(_kept_key(out, settings.seed), QUICK_SHARES if settings.quick else SHARES)
    key, shares = reference.key(), reference.shares
    tidy, whole = split_slices(cleaned, key, shares), split_slices(slices, key, shares)
    return Material(
        cache=cache,
        split=reference,
        learnt=tidy["train"],
        validation=tidy["holdout"],
        to_calibrate=whole["calibration"],
        whole_validation=whole["holdout"],
        cleaning=(report, clean(slices, "careful")[1]),
        simulated=bool((slices.table["label_source"] == "simulation").all()),
    )


def _opened(data: str, out: Path, settings: Settings, scale: Scale) -> Cache:
    if (Path(data) / "cache.json").is_file():
        return open_cache(Path(data))
    name, colon, path = data.partition(":")
    if not colon:
        raise TrainingError(f"{data} is no cache; give the folder of one, or SOURCE:PATH.")
    source: Source = open_known(name, path, settings.labels, open_key(out / "patients.key"))
    if settings.quick and isinstance(source, Simulated):
        source = replace(source, size_px=_QUICK_SCAN_PX)
    spec = PreprocessSpec(size_px=scale.size_px, windows_hu=((0.0, 1.0),))
    return build_cache(out / "cache", source, spec, workers=settings.workers)


def _kept_key(out: Path, seed: int) -> Path:
    """Return the file of a key that the seed decides: the same data are parted alike again."""
    path = out / "split.key"
    if not path.is_file():
        digest = hashlib.sha256(f"the paper {seed}".encode()).hexdigest()
        write_durable(path, f"{digest}\n".encode())
    return path
