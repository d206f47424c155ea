"""What was chosen on the calibration split, kept beside the run: ``calibration.json``.

The export of a bundle reads it; people may read it too.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from ichnode.nets.manifest import Calibration, Thresholds, VolumeSpec
from ichnode.spool import write_durable
from train.errors import TrainingError
from train.judge.aims import USUAL, Aims
from train.judge.calibrating import UNCHANGED, Rule, Site, calibrate_and_check
from train.judge.operating_point import choose
from train.judge.volumes import choose_volume
from train.predictions import Predictions

FILE = "calibration.json"
FORMAT = 1


@dataclasses.dataclass(frozen=True, slots=True)
class Chosen:
    """Calibration and thresholds, what speaks for them as JSON, and how volumes are made."""

    calibration: Calibration
    thresholds: Thresholds
    report: dict[str, Any] = dataclasses.field(repr=False)
    volume: VolumeSpec | None = None  # of a network that draws masks, where voxels are known


def choose_all(
    predictions: Predictions,
    rule: Rule = "adjacent_mean",
    *,
    site: Site = UNCHANGED,
    aims: Aims = USUAL,
    local: bool | None = None,
    volume_shown: bool | None = None,
    seed: int = 1,
) -> Chosen:
    """Calibrate and choose thresholds on the same series; see `calibrating`, `operating_point`.

    How areas become volumes is chosen beside it, see `volumes`.

    Temperature and bias keep the order of the series, so that the promises of the thresholds hold
    although both are chosen on the same series.
    """
    found = calibrate_and_check(predictions, rule, site=site, seed=seed)
    choice = choose(
        predictions,
        found.calibration,
        aims=aims,
        local=local,
        prevalence=None if site == UNCHANGED else found.prevalence,
        seed=seed,
    )
    checks = [dataclasses.asdict(one) | {"helps": one.helps} for one in found.checks]
    report = {"checks": checks, "prevalence": found.prevalence} | choice.report()
    plain = json.loads(json.dumps(report, allow_nan=False))  # as it will be read again
    volume = choose_volume(predictions, shown=volume_shown, seed=seed)
    return Chosen(found.calibration, choice.thresholds, plain, volume)


def write_chosen(run: Path, chosen: Chosen) -> Path:
    """Write ``calibration.json`` into the folder of a run and return its path."""
    content = {
        "format": FORMAT,
        "calibration": dataclasses.asdict(chosen.calibration),
        "thresholds": dataclasses.asdict(chosen.thresholds),
        "report": chosen.report,
    }
    if chosen.volume is not None:
        content["volume"] = dataclasses.asdict(chosen.volume)
    path = run / FILE
    write_durable(path, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())
    return path


def read_chosen(run: Path) -> Chosen:
    """Read ``calibration.json`` from the folder of a run.

    Raises
    ------
    TrainingError
        When there is none, or it is none that this version wrote.
    """
    try:
        content = json.loads((run / FILE).read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise ValueError("another format")
        calibration = Calibration(**_fields(content["calibration"]))
        thresholds = Thresholds(**_fields(content["thresholds"]))
        volume = VolumeSpec(**_fields(content["volume"])) if "volume" in content else None
    except FileNotFoundError:
        raise TrainingError(
            f"{run} is not calibrated; do that with `python -m train calibrate --run {run}`."
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise TrainingError(f"{run / FILE} is damaged; calibrate the run again.") from error
    return Chosen(calibration, thresholds, content["report"], volume)


def _fields(stored: dict[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in stored.items()}
