"""The gates: is the candidate safe to put beside the model that runs, and is it any better?

Each gate compares champion and candidate on the same studies of the locked holdout, which neither
was trained, chosen or calibrated on, and says one sentence. All must pass. A gate with too few
cases to tell is inconclusive: it does not refuse, and the person who promotes is shown it.

References
----------
Design of the gates: docs/training.md. McNemar Q, Psychometrika 1947;12:153. Blume/FDA guidance on
predetermined change control plans, 2024: acceptance criteria are written down beforehand.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ichnode.domain.findings import LABELS, Finding
from ichnode.domain.intervals import clopper_pearson_lower
from train.judge.metrics import brier, calibration_line, ece, mcnemar_exact
from train.judge.subgroups import group_of
from train.predictions import Predictions
from train.retrain.judged import Draws, Flags, Floats, Judged, interval
from train.retrain.policy import Policy

MOST_DIFFERENCE = 1e-3
_BY_CHANCE = 0.99  # a model that is right is refused for its calibration error once in a hundred


@dataclass(frozen=True, slots=True)
class Gate:
    """What one gate says."""

    id: str
    name: str
    passed: bool
    sentence: str
    inconclusive: bool = False
    figures: dict[str, Any] = field(default_factory=dict)

    @property
    def refuses(self) -> bool:
        """Whether this gate alone keeps the candidate out."""
        return not self.passed and not self.inconclusive


def judge_candidate(champion: Judged, candidate: Judged, policy: Policy) -> tuple[Gate, ...]:
    """Return what every gate says of a candidate, in order.

    Raises
    ------
    ValueError
        When the two did not read the same series.
    """
    mine = [one.series for one in champion.predictions.series]
    if mine != [one.series for one in candidate.predictions.series]:
        raise ValueError("champion and candidate must be judged on the same series")
    draws = Draws(champion, candidate, policy)
    return (
        *not_inferior(draws, policy),
        sensitive(champion, candidate, policy),
        no_new_misses(champion, candidate),
        no_more_alerts(champion, candidate, policy),
        no_more_reviews(champion, candidate, policy),
        *calibrated(champion, candidate, policy),
        same_in_subgroups(champion, candidate, policy),
        as_quick(champion, candidate, policy),
        better(draws, champion, candidate),
    )


def no_leak(trained_on: Set[str], holdout: Set[str], same_pixels: int) -> Gate:
    """L1: nobody whom the candidate learnt from is in the holdout, by key and by pixels."""
    shared = len(trained_on & holdout)
    return Gate(
        "L1",
        "no leak",
        passed=shared == 0 and same_pixels == 0,
        sentence=f"{shared} patients and {same_pixels} series with the same pixels are in the "
        "holdout and in another split; there may be none.",
        figures={"patients": shared, "same_pixels": same_pixels},
    )


def reproducible(difference: float) -> Gate:
    """G0: what is stored says what the training measured."""
    return Gate(
        "G0",
        "reproducible",
        passed=difference <= MOST_DIFFERENCE,
        sentence=f"The stored bundle, read again, gives logits that differ by {difference:.2g} at "
        f"most; {MOST_DIFFERENCE:g} is allowed.",
        figures={"difference": difference, "most": MOST_DIFFERENCE},
    )


def not_inferior(draws: Draws, policy: Policy) -> list[Gate]:
    """G1: the AUROC is no worse than the champion's within the margins of the policy."""
    gates = [_change_gate("G1", "any haemorrhage", draws, [0], policy.least_auroc_change)]
    kinds = [
        k
        for k in range(1, len(LABELS))
        if (draws.truth(k) == 1).sum() >= policy.least_subtype_positives
        and (draws.truth(k) == 0).any()
    ]
    if kinds:
        gates.append(
            _change_gate("G1m", "mean of subtypes", draws, kinds, policy.least_macro_auroc_change)
        )
    for k in range(1, len(LABELS)):
        name = LABELS[k]
        if k in kinds:
            gates.append(
                _change_gate(f"G1-{name}", name, draws, [k], policy.least_subtype_auroc_change)
            )
        else:
            gates.append(_too_few_of(k, draws, policy))
    return gates


def _too_few_of(label: int, draws: Draws, policy: Policy) -> Gate:
    there = int((draws.truth(label) == 1).sum())
    return Gate(
        f"G1-{LABELS[label]}",
        f"no worse: {LABELS[label]}",
        passed=False,
        inconclusive=True,
        sentence=f"{there} {LABELS[label]} cases in the holdout; "
        f"{policy.least_subtype_positives - there} more are needed to tell.",
    )


def _change_gate(
    gate_id: str, name: str, draws: Draws, labels: Sequence[int], least: float
) -> Gate:
    changes = [draws.change(label) for label in labels]
    change = float(np.mean([one for one, _ in changes]))
    low, high = interval(np.mean([drawn for _, drawn in changes], axis=0))
    return Gate(
        gate_id,
        f"no worse: {name}",
        passed=low >= least,
        sentence=f"AUROC of {name} changes by {change:+.4f} (95 % from {low:+.4f} to "
        f"{high:+.4f}; the lower end may be {least:+.3f} at least).",
        figures={"change": change, "low": low, "high": high, "least": least},
    )


def sensitive(champion: Judged, candidate: Judged, policy: Policy) -> Gate:
    """G2: the lower bound of the sensitivity at the operating point is near the target."""
    positive = champion.predictions.series_truth[:, 0] == 1
    hits, count = int(candidate.urgent[positive].sum()), int(positive.sum())
    least = policy.target_sensitivity - policy.sensitivity_slack
    low = clopper_pearson_lower(hits, count)
    return Gate(
        "G2",
        "sensitive enough",
        passed=low >= least,
        sentence=f"{hits} of {count} haemorrhages are called urgent; the 95 % lower bound of the "
        f"sensitivity is {low:.3f} and must be {least:.2f}.",
        figures={"hits": hits, "of": count, "low": low, "least": least},
    )


def no_new_misses(champion: Judged, candidate: Judged) -> Gate:
    """G2b: it does not miss significantly more of what the champion found than the other way."""
    positive = champion.predictions.series_truth[:, 0] == 1
    mine, yours = champion.urgent[positive], candidate.urgent[positive]
    lost, won = int((mine & ~yours).sum()), int((~mine & yours).sum())
    p = mcnemar_exact(lost, won)
    return Gate(
        "G2b",
        "no new misses",
        passed=not (lost > won and p < 0.05),
        sentence=f"It misses {lost} haemorrhages that the champion finds and finds {won} that the "
        f"champion misses (exact McNemar p = {p:.3f}).",
        figures={"lost": lost, "won": won, "p": p},
    )


def no_more_alerts(champion: Judged, candidate: Judged, policy: Policy) -> Gate:
    """G3: readers are not interrupted more often, but for bleeds that the champion left out.

    An alert more for each haemorrhage more is what a better model is for, and does not count.
    """
    truly = champion.predictions.series_truth[:, 0] == 1
    before, after = float(champion.urgent.mean()), float(candidate.urgent.mean())
    gained = max(float((candidate.urgent & truly).mean() - (champion.urgent & truly).mean()), 0.0)
    most = before * policy.most_alert_rate_ratio + gained
    return Gate(
        "G3",
        "no more alerts",
        passed=after <= most,
        sentence=f"{1000 * after:.0f} alerts per 1,000 studies; the champion gives "
        f"{1000 * before:.0f}, {1000 * gained:.0f} more find haemorrhages that it leaves out, and "
        f"{1000 * most:.0f} are allowed.",
        figures={"before": before, "after": after, "gained": gained, "most": most},
    )


def no_more_reviews(champion: Judged, candidate: Judged, policy: Policy) -> Gate:
    """G6: it does not hide behind "to be reviewed"."""
    before, after = (
        float(np.mean([finding is Finding.REVIEW for finding in one.findings]))
        for one in (champion, candidate)
    )
    most = before + policy.most_review_rate_rise
    return Gate(
        "G6",
        "no more undetermined",
        passed=after <= most,
        sentence=f"{after:.1%} of studies are to be reviewed; the champion says so of "
        f"{before:.1%}, and {most:.1%} are allowed.",
        figures={"before": before, "after": after, "most": most},
    )


def calibrated(champion: Judged, candidate: Judged, policy: Policy) -> list[Gate]:
    """G4: its probabilities mean what they say.

    Slope and intercept are those of a logistic regression of the truth on the logit (Cox); their
    intervals must reach the allowed range. The calibration error of few cases is never 0, so it
    is also compared with what a perfectly calibrated model would show by chance.
    """
    truth = champion.predictions.series_truth[:, 0]
    known = ~np.isnan(truth)
    flags = truth[known] == 1
    after = candidate.probabilities[known, 0]
    before = champion.probabilities[known, 0]
    return [
        _slope_gate(after, flags, policy),
        _ece_gate(after, flags, policy),
        _brier_gate(before, after, flags, policy),
    ]


def _slope_gate(p: Floats, truth: Flags, policy: Policy) -> Gate:
    line = calibration_line(p, truth)
    low, high = policy.calibration_slope
    reaches = line.slope_low <= high and line.slope_high >= low
    level = policy.most_calibration_intercept
    centred = line.intercept_low <= level and line.intercept_high >= -level
    return Gate(
        "G4",
        "calibrated",
        passed=reaches and centred,
        sentence=f"Calibration slope {line.slope:.2f} ({line.slope_low:.2f} to "
        f"{line.slope_high:.2f}, which must reach {low} to {high}), intercept "
        f"{line.intercept:+.2f} ({line.intercept_low:+.2f} to {line.intercept_high:+.2f}, "
        f"which must reach +-{level}).",
        figures={"slope": line.slope, "intercept": line.intercept},
    )


def _ece_gate(p: Floats, truth: Flags, policy: Policy) -> Gate:
    error = ece(p, truth)
    rng = np.random.default_rng(policy.seed)
    by_chance = [ece(p, rng.random(len(p)) < p) for _ in range(200)]
    most = max(policy.most_ece, float(np.quantile(by_chance, _BY_CHANCE)))
    return Gate(
        "G4e",
        "calibration error",
        passed=error <= most,
        sentence=f"The calibration error is {error:.3f}; {most:.3f} is allowed for "
        f"{len(p)} studies.",
        figures={"ece": error, "most": most},
    )


def _brier_gate(before: Floats, after: Floats, truth: Flags, policy: Policy) -> Gate:
    change = brier(after, truth) - brier(before, truth)
    return Gate(
        "G4b",
        "Brier score",
        passed=change <= policy.most_brier_rise,
        sentence=f"The Brier score changes by {change:+.4f}; at most "
        f"{policy.most_brier_rise:+.3f} is allowed.",
        figures={"change": change, "most": policy.most_brier_rise},
    )


def same_in_subgroups(champion: Judged, candidate: Judged, policy: Policy) -> Gate:
    """G5: no group of patients or scanners loses sensitivity."""
    positive = champion.predictions.series_truth[:, 0] == 1
    worst, where, looked = 0.0, "", 0
    for name, members in _groups(champion.predictions):
        inside = members & positive
        if inside.sum() < policy.least_subgroup_positives:
            continue
        looked += 1
        drop = float(champion.urgent[inside].mean() - candidate.urgent[inside].mean())
        if drop > worst:
            worst, where = drop, name
    told = f"The largest drop of sensitivity is {worst:.3f} ({where})" if where else "No drop"
    return Gate(
        "G5",
        "same in subgroups",
        passed=worst <= policy.most_subgroup_sensitivity_drop,
        inconclusive=looked == 0,
        sentence=f"{told} in {looked} groups with {policy.least_subgroup_positives} haemorrhages "
        f"or more; {policy.most_subgroup_sensitivity_drop:g} is allowed.",
        figures={"drop": worst, "group": where, "groups": looked},
    )


def _groups(predictions: Predictions) -> list[tuple[str, Flags]]:
    found: dict[str, list[int]] = {}
    for index, one in enumerate(predictions.series):
        for kind, value in group_of(one.facts, one.dataset).items():
            found.setdefault(f"{kind} {value}", []).append(index)
    groups = []
    for name, members in sorted(found.items()):
        flags = np.zeros(len(predictions), np.bool_)
        flags[members] = True
        groups.append((name, flags))
    return groups


def as_quick(champion: Judged, candidate: Judged, policy: Policy) -> Gate:
    """G7: it takes no more time."""
    ratio = candidate.seconds / champion.seconds
    return Gate(
        "G7",
        "as quick",
        passed=ratio <= policy.most_runtime_ratio,
        sentence=f"A series takes {ratio:.2f} times as long as with the champion; "
        f"{policy.most_runtime_ratio:g} times are allowed.",
        figures={"ratio": ratio, "most": policy.most_runtime_ratio},
    )


def better(draws: Draws, champion: Judged, candidate: Judged) -> Gate:
    """G8: something that was named beforehand improves; equal is no reason to change.

    Two figures are named: the AUROC of any haemorrhage, and the sensitivity at the operating
    point (alerts being held by G3). Each is tested at 2.5 %, which keeps the whole at 5 %.
    """
    change, drawn = draws.change(0)
    low, _ = interval(drawn)
    positive = champion.predictions.series_truth[:, 0] == 1
    gained = candidate.urgent[positive].astype(float) - champion.urgent[positive]
    weights = draws.weights[:, positive]
    sums = weights.sum(axis=1)
    means = weights @ gained / np.maximum(sums, 1)
    gain_low, _ = interval(means[sums > 0]) if positive.any() else (0.0, 0.0)
    gain = float(gained.mean()) if positive.any() else 0.0
    return Gate(
        "G8",
        "better",
        passed=low > 0 or gain_low > 0,
        sentence=f"AUROC of any haemorrhage {change:+.4f} (lower end {low:+.4f}), sensitivity "
        f"{gain:+.3f} (lower end {gain_low:+.3f}); one of them must improve beyond chance.",
        figures={"auroc_low": low, "sensitivity_low": gain_low},
    )
