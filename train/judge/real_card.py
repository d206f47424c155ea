"""What the model card says of real scans that the bundle was measured on: its ledger, in full."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ichnode.domain.findings import LABELS

_HEAD = """
## Measured on real scans

By `python -m train measure`, on scans that nothing was learnt from, as whoever measured says: all
uses that the ledger held when this card was written. Equal marks are the same files, looked at
again. Figures to the nearest .005, intervals 95 %; slices count as independent, so where several
are of one patient the intervals are too narrow. Sensitivity and specificity at the thresholds that
the model had, which are of series; a slice is read as a series of its own. "Of brain": of the
slices or series that show enough of it.

| when | model | data | mark | with, without | AUROC | sensitivity | specificity | AUROC of brain |
|---|---|---|---|---|---|---|---|---|
"""


def on_real_scans(uses: Sequence[Mapping[str, Any]], model_uid: str) -> str:
    """Return the section of the card on real scans; "" where none were measured.

    Parameters
    ----------
    uses : sequence of mapping
        The entries of the ledger, see `train.carryover.ledger`.
    model_uid : str
        Of the bundle; a ledger may begin with uses of one that was before it.
    """
    if not uses:
        return ""
    rows = "\n".join(_row(use, model_uid) for use in uses)
    return f"{_HEAD}{rows}\n\n{_kinds(uses)}\n"


def _row(use: Mapping[str, Any], model_uid: str) -> str:
    figures = use["figures"]
    cells = (
        use["at"][:10],
        "this" if use["model_uid"] == model_uid else "one before",
        f"{use['data'].replace('|', '/')} ({use['kind']})",
        use["digest"][:8],
        _counts(use),
        _figure(figures, "auroc"),
        _figure(figures, "sensitivity"),
        _figure(figures, "specificity"),
        _figure(use["brain_bearing"], "auroc"),
    )
    return f"| {' | '.join(cells)} |"


def _counts(use: Mapping[str, Any]) -> str:
    known = use["positives"] + use["negatives"]
    told = f"{use['positives']}, {use['negatives']}" if known else "unknown"
    return told if known == use["n"] else f"{told} (of {use['n']})"


def _figure(figures: Mapping[str, Any], name: str) -> str:
    value, interval = figures[name], figures.get(f"{name}_interval_95")
    if value is None:
        return "-"
    told = f"{value:.3f}"
    return told if interval is None else f"{told} ({interval[0]:.3f} to {interval[1]:.3f})"


def _kinds(uses: Sequence[Mapping[str, Any]]) -> str:
    """Say of which kinds real scans were measured, as far as folders name kinds."""
    most: Counter[str] = Counter()
    for use in uses:
        most |= Counter(use.get("kinds", {}))
    missing = ", ".join(kind for kind in LABELS[1:] if not most[kind])
    named = ", ".join(f"{kind} ({most[kind]})" for kind in LABELS[1:] if most[kind])
    told = f"Kinds that the measured folders name: {named or 'none'}."
    return f"{told} Unproven on real scans: {missing}." if missing else told
