"""What the model card says of real scans that the bundle was measured on: its ledger, in full."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ichnode.domain.findings import LABELS

_HEAD = """
## Measured on real scans

By `python -m train measure`, on scans that nothing was learnt from; figures to the nearest .005,
intervals 95 %. Every use there was, whatever came out of it. Sensitivity and specificity at the
shipped thresholds, which are of series; a slice is read as a series of its own.

| when | data | items | with bleeds | AUROC | sensitivity | specificity | AUROC, brain-bearing |
|---|---|---|---|---|---|---|---|
"""


def on_real_scans(uses: Sequence[Mapping[str, Any]]) -> str:
    """Return the section of the card on real scans; "" where none were measured.

    Parameters
    ----------
    uses : sequence of mapping
        The entries of the ledger, see `train.carryover.ledger`.
    """
    if not uses:
        return ""
    return _HEAD + "\n".join(map(_row, uses)) + f"\n\n{_unproven(uses)}\n"


def _unproven(uses: Sequence[Mapping[str, Any]]) -> str:
    """Say which kinds no real scan showed, as far as the folders that were measured name kinds."""
    shown = {kind for use in uses for kind in use.get("kinds", ())}
    missing = [kind for kind in LABELS[1:] if kind not in shown]
    told = f"Of kinds these data name {', '.join(sorted(shown)) or 'none'}"
    return f"{told}; on real scans {', '.join(missing)} are unproven." if missing else f"{told}."


def _row(use: Mapping[str, Any]) -> str:
    figures = use["figures"]
    cells = (
        use["at"][:10],
        f"{use['data']} ({use['kind']})",
        use["n"],
        "unknown" if use["positives"] is None else use["positives"],
        _auroc(figures),
        _figure(figures["sensitivity"]),
        _figure(figures["specificity"]),
        _auroc(use["brain_bearing"]),
    )
    return f"| {' | '.join(map(str, cells))} |"


def _auroc(figures: Mapping[str, Any]) -> str:
    interval = figures.get("auroc_interval_95")
    told = _figure(figures["auroc"])
    return told if interval is None else f"{told} ({interval[0]:.3f} to {interval[1]:.3f})"


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
