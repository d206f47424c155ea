"""Look at the data before anything is learnt from it; a refusal says how much more of what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ichnode.domain.findings import LABELS
from train.data.records import contradictory
from train.data.splits import split_of
from train.retrain.policy import Policy
from train.retrain.steps import Refused
from train.retrain.studies import Export, ExportedStudy, coverage


@dataclass(frozen=True, slots=True)
class Counts:
    """Studies with and without haemorrhage in one split."""

    with_blood: int
    without: int

    @property
    def both(self) -> int:
        """How many there are."""
        return self.with_blood + self.without


def check_counts(split: Mapping[str, Counts], policy: Policy) -> None:
    """Refuse where there are too few cases, and say how many more of what are needed.

    Raises
    ------
    Refused
        By the rule ``D1``.
    """
    share = dict(zip(("train", "selection", "calibration", "holdout"), policy.shares, strict=True))
    wanted = [
        ("train", "studies", split["train"].both, policy.least_train_series),
        (
            "train",
            "studies with haemorrhage",
            split["train"].with_blood,
            policy.least_train_positives,
        ),
        (
            "calibration",
            "studies with haemorrhage",
            split["calibration"].with_blood,
            policy.least_calibration_positives,
        ),
        (
            "holdout",
            "studies with haemorrhage",
            split["holdout"].with_blood,
            policy.least_holdout_positives,
        ),
        (
            "holdout",
            "studies without haemorrhage",
            split["holdout"].without,
            policy.least_holdout_negatives,
        ),
    ]
    short = [
        f"The {name} split has {there} {what} and needs {least}: {least - there} more, about "
        f"{round((least - there) / share[name])} more labelled {what} in all."
        for name, what, there, least in wanted
        if there < least
    ]
    if short:
        raise Refused("D1", short)


def check_coverage(export: Export, policy: Policy) -> dict[str, Any]:
    """Refuse where only flagged studies are labelled: the misses would stay hidden.

    A label counts where the images are there as well: only then the study can be measured on.

    Raises
    ------
    Refused
        By the rule ``D2``.
    """
    flagged = coverage([one for one in export.analysed if one.flagged])
    unflagged = coverage([one for one in export.analysed if not one.flagged])
    share = unflagged[0]
    if share is None or share < policy.least_unflagged_coverage:
        missing = round(policy.least_unflagged_coverage * unflagged[2]) - unflagged[1]
        raise Refused(
            "D2",
            [
                f"Of {unflagged[2]} analysed studies that the model did not flag, {unflagged[1]} "
                "are labelled and have their images, so its misses and with them the sensitivity "
                f"are unknown: label {max(missing, 1)} more of them, consecutive ones, not chosen "
                "ones, before the node deletes their images."
            ],
        )
    if flagged[0] is not None and flagged[0] - share > policy.most_coverage_gap:
        raise Refused(
            "D2",
            [
                f"Flagged studies are labelled and have images in {flagged[0]:.0%} of cases, "
                f"unflagged ones in {share:.0%}; with a gap of more than "
                f"{policy.most_coverage_gap:.0%} the figures would flatter the model."
            ],
        )
    return {"flagged": list(flagged), "unflagged": list(unflagged)}


def check_labels(studies: Sequence[ExportedStudy]) -> None:
    """Refuse labels that contradict themselves.

    Raises
    ------
    Refused
        By the rule ``D3``.
    """
    labels = np.asarray([one.labels for one in studies], np.float32).reshape(-1, len(LABELS))
    wrong = int(contradictory(labels).sum())
    if wrong:
        raise Refused(
            "D3",
            [
                f"{wrong} studies are labelled with a subtype and without haemorrhage, or with "
                "haemorrhage and none of the subtypes."
            ],
        )


def check_flips(flips: int, compared: int, policy: Policy, *, corrections: int = 0) -> None:
    """Refuse when more labels turned over than a correction that somebody signed accounts for.

    Raises
    ------
    Refused
        By the rule ``D4``: a mistaken import, or somebody who means harm.
    """
    unexplained = max(flips - corrections, 0)
    if compared and unexplained / compared > policy.most_flipped_labels:
        raise Refused(
            "D4",
            [
                f"{unexplained} of {compared} labels turned over since the last retraining "
                f"({unexplained / compared:.1%}, at most {policy.most_flipped_labels:.0%} pass "
                "unasked). Check the last import, or give --corrections with their number and a "
                "name."
            ],
        )


def count_split(
    studies: Sequence[ExportedStudy], key: bytes, policy: Policy
) -> tuple[dict[str, Counts], dict[str, list[str]]]:
    """Return the studies with and without blood of each split, and the patients of each."""
    counts = {name: [0, 0] for name in ("train", "selection", "calibration", "holdout")}
    patients: dict[str, set[str]] = {name: set() for name in counts}
    for one in studies:
        name = split_of(one.patient, key, policy.shares)
        counts[name][not one.positive] += 1
        patients[name].add(one.patient)
    return (
        {name: Counts(*pair) for name, pair in counts.items()},
        {name: sorted(found) for name, found in patients.items()},
    )


def count_labels(studies: Sequence[ExportedStudy]) -> dict[str, dict[str, int]]:
    """Return how many are with, without and unknown, by label."""
    return {
        label: {
            "present": sum(one.labels[i] == 1 for one in studies),
            "absent": sum(one.labels[i] == 0 for one in studies),
            "unknown": sum(one.labels[i] is None for one in studies),
        }
        for i, label in enumerate(LABELS)
    }
