"""Arm by arm: simulate, learn, read; what is done is kept and not done again.

::

    settings.json            what decides the figures
    steps.json               how many steps fit into the minutes, timed once
    caches/NAME              simulated series; holdout is everybody's
    arms/NAME                see `train.ablation.bench`
    ablations.md, ablations.json

Real slices are read when the networks of all arms that are asked for are finished, so that nothing
can follow from them there.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ichnode.spool import write_durable
from train.ablation.arms import Arm
from train.ablation.bench import ARMS_IN, Bench, RealSlices
from train.ablation.comparing import compared
from train.ablation.settings import Settings
from train.ablation.table import markdown
from train.errors import TrainingError

TABLE, FIGURES, SETTINGS = "ablations.md", "ablations.json", "settings.json"


def run_ablation(
    settings: Settings, out: Path, arms: Sequence[Arm], real: RealSlices | None = None
) -> str:
    """Do what is left of some arms and return the table of all that are done.

    Parameters
    ----------
    out : Path
        Folder for everything; the same command goes on there.
    real : RealSlices, optional
        Without, the arms are measured on simulated series alone; a later start adds the rest.

    Raises
    ------
    TrainingError
        When the folder holds results of other settings or other slices, or the template is missing.
    """
    asked, bench = settings.as_json(), Bench(settings, out)
    if real is not None:
        bench.check_real(real)
    out.mkdir(parents=True, exist_ok=True)
    _same_settings(out, asked)
    for number, arm in enumerate(arms, 1):
        print(f"{number} of {len(arms)}, {arm.name}: {arm.what}", flush=True)
        bench.learn(arm)
        bench.read_simulated(arm)
    if real is not None:
        for arm in arms:
            bench.read_real(arm, real)
    found = compared(out / ARMS_IN) | {"settings": asked | {"steps": bench.steps}}
    text = markdown(found)
    write_durable(out / FIGURES, (json.dumps(found, indent=1, allow_nan=False) + "\n").encode())
    write_durable(out / TABLE, text.encode())
    return text


def _same_settings(out: Path, asked: dict[str, Any]) -> None:
    path = out / SETTINGS
    if not path.is_file():
        write_durable(path, (json.dumps(asked, indent=1) + "\n").encode())
        return
    kept = json.loads(path.read_text(encoding="utf-8"))
    if other := [name for name, value in asked.items() if kept.get(name) != value]:
        raise TrainingError(
            f"{out} holds arms of another {other[0].replace('_', ' ')}; give another --out."
        )
