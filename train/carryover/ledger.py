"""The ledger of a bundle: which data it was measured on, when, and what came out.

Who measures on the same data again and again and keeps what looks good fits to them without
training on them. So every use is written down beside the bundle, before its result is shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import ichnode
from ichnode.domain.findings import LABELS
from ichnode.nets.registry import MEASUREMENTS
from train.chain import Chain, rounded

_FIGURES = ("auroc", "sensitivity", "specificity")


def entries(bundle: Path) -> list[dict[str, Any]]:
    """Return every use of a bundle, the oldest first.

    Raises
    ------
    TrainingError
        When a line was altered or taken out.
    """
    return _chain(bundle).entries()


def write_down(bundle: Path, found: Mapping[str, Any]) -> int:
    """Add a use to the ledger of a bundle, and return how often these data were used before.

    Parameters
    ----------
    bundle : Path
        Its folder.
    found : mapping
        As `train.carryover.measured.measured` returns it; its figures are rounded to 0.005 here.

    Raises
    ------
    TrainingError
        When a line was altered or taken out.
    OSError
        When the folder cannot be written.
    """
    chain = _chain(bundle)
    with chain.growing() as file:
        before = [one for one in chain.entries() if one["digest"] == found["data"]["digest"]]
        chain.append(
            file,
            {
                "at": datetime.now(UTC).isoformat(timespec="seconds"),
                "kind": found["kind"],
                "data": found["data"]["name"],
                "digest": found["data"]["digest"],
                "n": found["n"],
                "positives": found["positives"],
                "negatives": found["negatives"],
                "kinds": {
                    kind: found["by_label"][kind]["n"]
                    for kind in LABELS[1:]
                    if kind in found["by_label"]
                },
                "left_out": len(found["left_out"]),
                "figures": _kept(found),
                "brain_bearing": _kept(found["brain_bearing"]),
                "model_uid": found["model"]["uid"],
                "code_version": ichnode.__version__,
            },
        )
    return len(before)


def _kept(found: Mapping[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = {name: rounded(found[name]) for name in _FIGURES}
    for name in _FIGURES:
        interval = found[f"{name}_interval_95"]
        kept[f"{name}_interval_95"] = interval and [rounded(end) for end in interval]
    return kept


def _chain(bundle: Path) -> Chain:
    return Chain(bundle / MEASUREMENTS, "what this bundle was measured on")
