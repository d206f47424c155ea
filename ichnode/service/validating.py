"""Validation on local cases: how the model that runs does on studies that people labelled.

Every study of the window counts. Where those that the model did not flag are not labelled, what it
missed is unknown, and so is everything that depends on it; the result says so instead of a figure.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ichnode.domain.findings import LABELS, Finding, Label, Presence
from ichnode.domain.intervals import wilson
from ichnode.domain.labels import Truth
from ichnode.domain.quantiles import quantile, quantile_interval
from ichnode.domain.reasons import Reason
from ichnode.worklist.cases import Case, CaseSeries

KIND, FORMAT = "ichnode validation", 1
LEAST_COVERAGE = 0.8  # of the studies that were not flagged
MOST_COVERAGE_GAP = 0.1  # by which the flagged ones may be labelled better
FEW = 30  # cases below which an interval says little
_SIMULATED = "ichnode phantom"
_OTHER_REASONS = {
    "failed": "The analysis failed.",
    "pending": "The analysis is pending.",
    "no_series": "No series arrived.",
}


@dataclass(frozen=True, slots=True)
class Judged:
    """One study of the window, and what the model called it."""

    case: Case = field(repr=False)
    truth: Truth
    urgent: bool
    review: bool
    analysed: bool

    @property
    def flagged(self) -> bool:
        """Whether the model moved it to the front."""
        return self.urgent or self.review

    @property
    def positive(self) -> bool | None:
        """Whether there is any haemorrhage, as people say; None where nobody did."""
        return self.truth.positive

    def presence(self, label: Label) -> set[Presence]:
        """Return what the model says of a label, over the series that it read."""
        index = LABELS.index(label)
        return {one.said.presence[index] for one in self.case.stated if one.said is not None}


def judged(case: Case) -> Judged:
    """Return what a model called a study, at its own operating point."""
    findings = {one.said.finding for one in case.stated if one.said is not None}
    best = case.best
    return Judged(
        case=case,
        truth=case.truth.about(best.series_uid if best else None),
        urgent=Finding.POSITIVE in findings,
        review=Finding.REVIEW in findings,
        analysed=bool(findings),
    )


@dataclass(frozen=True, slots=True)
class Window:
    """Which studies were asked for."""

    since: datetime
    until: datetime


def measure(
    cases: Iterable[Case], model: Mapping[str, str], window: Window, created: datetime
) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """Measure the model that runs on the studies of a window.

    Parameters
    ----------
    cases : iterable of Case
        All of them, consecutive.
    model : mapping
        ``model_uid``, ``name``, ``version`` and ``data`` of the one that runs.

    Returns
    -------
    result : dict
        What the page and the JSON file hold: no patient data.
    to_look_at : dict
        Study Instance UIDs of the missed and of the false alarms, for people on the host alone.
    """
    every = [judged(case) for case in cases]
    mine = [one for one in every if one.analysed and _is_by(one.case, model["model_uid"])]
    silent = [one for one in every if not one.analysed]
    coverage = _coverage(mine)
    known, caution = _known(coverage)
    labelled = [one for one in mine if one.positive is not None]
    result: dict[str, Any] = {
        "kind": KIND,
        "format": FORMAT,
        "created": created.isoformat(timespec="seconds"),
        "model": dict(model),
        "window": {
            "from": window.since.isoformat(timespec="seconds"),
            "to": window.until.isoformat(timespec="seconds"),
        },
        "simulated": _all_simulated(every),
        "studies": {
            "all": len(every),
            "analysed": len(mine),
            "by_another_model": len(every) - len(mine) - len(silent),
            "not_analysed": len(silent),
        },
        "labelled": len(labelled),
        "sources": dict(Counter(one.truth.source for one in labelled)),
        "coverage": coverage,
        "sensitivity_known": known,
        "cautions": [*caution, *_few(labelled)],
        "any": _any(labelled, silent, known),
        "kinds": {label: _kind(label, labelled, known) for label in LABELS[1:]},
        "not_analysed": _reasons(silent, len(every)),
        "times": _times(mine),
        "scanners": _scanners(mine, silent, known),
    }
    to_look_at = {
        "missed": [one.case.study_uid for one in labelled if one.positive and not one.flagged],
        "false_alarms": [
            one.case.study_uid for one in labelled if one.urgent and one.positive is False
        ],
    }
    return result, to_look_at


def _is_by(case: Case, model_uid: str) -> bool:
    return all(one.said is not None and one.said.model_uid == model_uid for one in case.stated)


def _all_simulated(every: Sequence[Judged]) -> bool:
    closest = [_closest(one.case) for one in every]
    headers = [one.header for one in closest if one is not None and one.header is not None]
    return bool(headers) and all(header.manufacturer == _SIMULATED for header in headers)


# ------------------------------------------------------------------ what can be known


def _coverage(mine: Sequence[Judged]) -> dict[str, Any]:
    return {
        name: proportion(
            one.positive is not None for one in mine if one.flagged is (name == "flagged")
        )
        for name in ("flagged", "unflagged")
    }


def _known(coverage: Mapping[str, Any]) -> tuple[bool, list[str]]:
    """Say whether sensitivity can be known, and what to be careful about."""
    flagged, unflagged = coverage["flagged"], coverage["unflagged"]
    share = unflagged["value"]
    if share is None:
        return False, ["No study was analysed and not flagged, so that nothing is known of misses."]
    if share < LEAST_COVERAGE:
        return False, [
            f"Of {unflagged['of']} analysed studies that the model did not flag, "
            f"{unflagged['hits']} are labelled. What it missed is unknown, and with it "
            "sensitivity, specificity and negative predictive value. Label consecutive studies, "
            "flagged or not."
        ]
    if flagged["value"] is not None and flagged["value"] - share > MOST_COVERAGE_GAP:
        return False, [
            f"Flagged studies are labelled in {flagged['value']:.0%} and others in {share:.0%} of "
            "cases: the figures would flatter the model."
        ]
    return True, []


def _few(labelled: Sequence[Judged]) -> list[str]:
    positives = sum(bool(one.positive) for one in labelled)
    if positives >= FEW:
        return []
    return [
        f"{positives} labelled studies with haemorrhage are few: look at the intervals, not at the "
        "figures."
    ]


def proportion(hits: Iterable[bool | None], *, known: bool = True) -> dict[str, Any]:
    """Return a proportion with its Wilson interval, as JSON; value None where it is not known."""
    found = [bool(hit) for hit in hits]
    count, of = sum(found), len(found)
    low, high = wilson(count, of)
    told = known and of > 0
    return {
        "hits": count,
        "of": of,
        "value": count / of if told else None,
        "low": low if told else None,
        "high": high if told else None,
    }


# ------------------------------------------------------------------ how well


def _any(labelled: Sequence[Judged], silent: Sequence[Judged], known: bool) -> dict[str, Any]:
    """Return the figures of any haemorrhage, at both operating points."""
    missed_silently = [one for one in silent if one.positive]
    found: dict[str, Any] = {
        "prevalence": proportion((one.positive for one in labelled), known=known)
    }
    for name in ("urgent", "urgent_or_review"):
        pairs = [
            (one.urgent if name == "urgent" else one.flagged, one.positive) for one in labelled
        ]
        called = [hit for hit, there in pairs if there]
        found[name] = {
            "sensitivity": proportion(called, known=known),
            "specificity": proportion((not hit for hit, there in pairs if not there), known=known),
            "ppv": proportion(there for hit, there in pairs if hit),
            "npv": proportion((not there for hit, there in pairs if not hit), known=known),
            # A bleed that was not analysed was not moved up, whatever the reason.
            "sensitivity_of_all": proportion(
                [*called, *(False for _ in missed_silently)], known=known
            ),
        }
    return found


def _kind(label: Label, labelled: Sequence[Judged], known: bool) -> dict[str, Any]:
    points = {
        "urgent": {Presence.PRESENT},
        "urgent_or_review": {Presence.PRESENT, Presence.UNDETERMINED},
    }
    found: dict[str, Any] = {}
    for name, counted in points.items():
        pairs = [(bool(one.presence(label) & counted), one.truth.of(label)) for one in labelled]
        found[name] = {
            "sensitivity": proportion((hit for hit, there in pairs if there), known=known),
            "specificity": proportion(
                (not hit for hit, there in pairs if there is False), known=known
            ),
        }
    return found


def _reasons(silent: Sequence[Judged], total: int) -> list[dict[str, Any]]:
    """Return why studies were not analysed, the most frequent reason first."""
    counted: dict[str, list[Judged]] = defaultdict(list)
    for one in silent:
        counted[one.case.reason].append(one)
    return [
        {
            "reason": reason,
            "sentence": _sentence(reason),
            "studies": len(of),
            "share": len(of) / total,
            "labelled_with_haemorrhage": sum(bool(one.positive) for one in of),
        }
        for reason, of in sorted(counted.items(), key=lambda pair: (-len(pair[1]), pair[0]))
    ]


def _sentence(reason: str) -> str:
    if reason in _OTHER_REASONS:
        return _OTHER_REASONS[reason]
    try:
        return Reason.from_code(reason).sentence
    except KeyError:
        return reason


# ------------------------------------------------------------------ how soon


def _times(mine: Sequence[Judged]) -> list[dict[str, Any]]:
    """Return how long it took from the last slice, in seconds."""
    said = [
        (one.urgent, series.said)
        for one in mine
        for series in one.case.stated
        if series.said is not None
    ]
    positive = [one for _, one in said if one.finding is Finding.POSITIVE]
    rest = [one for urgent, one in said if not urgent]
    return [
        _time(
            "Positive: last slice to verdict",
            [one.settled_at - one.last_slice_at for one in positive],
        ),
        _time(
            "Positive: last slice to report delivered",
            [one.reported_at - one.last_slice_at for one in positive if one.reported_at],
        ),
        _time(
            "Not flagged as urgent: last slice to verdict",
            [one.settled_at - one.last_slice_at for one in rest],
        ),
    ]


def _time(what: str, spans: Sequence[Any]) -> dict[str, Any]:
    seconds = [span.total_seconds() for span in spans]
    found: dict[str, Any] = {"what": what, "count": len(seconds)}
    for name, q in (("median", 0.5), ("percentile_95", 0.95)):
        if not seconds:
            found[name] = {"value": None, "low": None, "high": None}
            continue
        low, high = quantile_interval(seconds, q)
        found[name] = {"value": quantile(seconds, q), "low": low, "high": high}
    return found


# ------------------------------------------------------------------ where


def _scanners(
    mine: Sequence[Judged], silent: Sequence[Judged], known: bool
) -> list[dict[str, Any]]:
    groups: dict[str, list[Judged]] = defaultdict(list)
    for one in (*mine, *silent):
        groups[_scanner(one.case)].append(one)
    return [
        _of_scanner(name, of, known)
        for name, of in sorted(groups.items(), key=lambda pair: (-len(pair[1]), pair[0]))
    ]


def _of_scanner(name: str, of: Sequence[Judged], known: bool) -> dict[str, Any]:
    labelled = [one for one in of if one.analysed and one.positive is not None]
    return {
        "scanner": name,
        "studies": len(of),
        "not_analysed": sum(not one.analysed for one in of),
        "labelled": len(labelled),
        "sensitivity": proportion((one.urgent for one in labelled if one.positive), known=known),
        "specificity": proportion(
            (not one.urgent for one in labelled if not one.positive), known=known
        ),
    }


def _scanner(case: Case) -> str:
    """Return which scanner sent a study: its AE title, maker and model."""
    closest = _closest(case)
    if closest is None:
        return "unknown"
    header = closest.header
    made = f"{header.manufacturer} {header.model_name}".strip() if header else ""
    return " · ".join(part for part in (closest.calling_ae.strip(), made[:60]) if part) or "unknown"


def _closest(case: Case) -> CaseSeries | None:
    return case.best or max(case.series, key=lambda one: one.instance_count, default=None)
