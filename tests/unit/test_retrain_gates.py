"""The gates on made-up models whose quality is known: each fault is refused by its own gate."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from ichnode.domain.findings import LABELS
from ichnode.nets.manifest import Calibration, Thresholds
from train.predictions import Predictions, SeriesPrediction
from train.retrain.gates import Gate, judge_candidate, no_leak, reproducible
from train.retrain.judged import Judged
from train.retrain.policy import Policy

POSITIVES, NEGATIVES = 200, 500
PRIOR = np.log(POSITIVES / NEGATIVES)
POLICY = Policy(bootstrap_draws=400)
ONE, ZERO = (1.0,) * 6, (0.0,) * 6


def model(
    separation: float,
    *,
    scale: float = 1.0,
    mixed: float = 0.5,
    seconds: float = 1.0,
    seed: int = 5,
) -> Judged:
    """A model that tells the two kinds apart by so many standard deviations.

    Its logits are log likelihood ratios plus the prior, so it is calibrated when `scale` is 1.
    `mixed` is how much of the noise every model of this kind shares: cases are hard for all.
    """
    truth = np.repeat([1.0, 0.0], [POSITIVES, NEGATIVES])
    shared = np.random.default_rng(3).standard_normal(len(truth))
    own = np.random.default_rng(seed).standard_normal(len(truth))
    noise = np.sqrt(mixed) * shared + np.sqrt(1 - mixed) * own
    evidence = separation * (noise + np.where(truth == 1, 0.5, -0.5) * separation)
    logits = scale * (evidence + PRIOR)
    kinds = np.where(truth == 1, np.arange(len(truth)) % 5, -1)
    series = []
    for index, value in enumerate(logits):
        of_kinds = [value if kinds[index] == k else -6.0 * scale for k in range(5)]
        series.append(
            SeriesPrediction(
                dataset="site",
                patient=f"p{index}",
                study=f"s{index}",
                series=f"e{index}",
                slice_keys=("1",),
                slice_logits=np.asarray([[value, *of_kinds]]),
                series_logits=np.asarray([value, *of_kinds]),
                slice_truth=np.full((1, 6), np.nan),
                series_truth=np.asarray(
                    [truth[index], *(float(kinds[index] == k) for k in range(5))]
                ),
                facts={
                    "manufacturer": "SIEMENS" if index % 2 else "GE MEDICAL",
                    "thickness_mm": 5.0,
                },
            )
        )
    cut = float(np.quantile(logits[truth == 1], 0.045))
    urgent = 1 / (1 + np.exp(-cut))
    return Judged(
        model_uid=f"2.25.{seed}",
        predictions=Predictions(tuple(series)),
        calibration=Calibration(ONE, ZERO, ONE, ZERO, "max", "made up"),
        thresholds=Thresholds((urgent, *(0.999999,) * 5), urgent * 0.9, "made up"),
        seconds=seconds,
    )


@pytest.fixture(scope="module")
def champion() -> Judged:
    return model(2.2)


def refusing(gates: tuple[Gate, ...]) -> set[str]:
    return {gate.id for gate in gates if gate.refuses}


def test_a_truly_better_candidate_passes_every_gate(champion: Judged) -> None:
    """None refuses, and the one that asks for an improvement is among those that passed."""
    gates = judge_candidate(champion, model(3.2, seed=6), POLICY)
    assert refusing(gates) == set()
    assert {"G1", "G2", "G3", "G4", "G8"} <= {gate.id for gate in gates if gate.passed}


def test_a_worse_candidate_is_refused_as_inferior(champion: Judged) -> None:
    """A model that separates less well does not pass G1."""
    assert "G1" in refusing(judge_candidate(champion, model(1.6, seed=6), POLICY))


def test_a_candidate_that_learnt_flipped_labels_is_refused(champion: Judged) -> None:
    """Logits that point the other way fail G1 and the sensitivity."""
    good = model(3.2, seed=6)
    turned = dataclasses.replace(
        good,
        predictions=Predictions(
            tuple(
                dataclasses.replace(
                    one, series_logits=-one.series_logits, slice_logits=-one.slice_logits
                )
                for one in good.predictions.series
            )
        ),
    )
    assert {"G1", "G2"} <= refusing(judge_candidate(champion, turned, POLICY))


def test_a_badly_calibrated_candidate_is_refused_for_that_alone(champion: Judged) -> None:
    """Three times the logits rank as well and decide alike, and say more than they know."""
    refused = refusing(judge_candidate(champion, model(3.2, scale=3.0, seed=6), POLICY))
    assert "G4" in refused
    assert refused <= {"G4", "G4e", "G4b"}


def test_an_equal_candidate_is_refused_because_nothing_improves(champion: Judged) -> None:
    """The champion against itself: no gate but G8 objects."""
    assert refusing(judge_candidate(champion, champion, POLICY)) == {"G8"}


def test_a_slower_candidate_is_refused(champion: Judged) -> None:
    """Half as much time again is too much."""
    gates = judge_candidate(champion, model(3.2, seed=6, seconds=1.5), POLICY)
    assert refusing(gates) == {"G7"}


def test_a_candidate_that_cries_wolf_is_refused(champion: Judged) -> None:
    """A threshold that calls nearly everything urgent gives too many alerts."""
    good = model(3.2, seed=6)
    eager = dataclasses.replace(
        good, thresholds=Thresholds((0.001, *(0.999999,) * 5), 0.0005, "eager")
    )
    assert "G3" in refusing(judge_candidate(champion, eager, POLICY))


def test_a_candidate_that_loses_a_scanner_is_refused(champion: Judged) -> None:
    """It finds nothing any more on scanners of one manufacturer."""
    good = model(3.2, seed=6)
    lost = Predictions(
        tuple(
            dataclasses.replace(one, series_logits=one.series_logits - 20)
            if one.facts["manufacturer"] == "SIEMENS" and one.series_truth[0] == 1
            else one
            for one in good.predictions.series
        )
    )
    gates = judge_candidate(champion, dataclasses.replace(good, predictions=lost), POLICY)
    (subgroups,) = [gate for gate in gates if gate.id == "G5"]
    assert subgroups.refuses
    assert "manufacturer Siemens" in subgroups.sentence


def test_too_few_of_a_subtype_is_inconclusive_and_says_how_many_more(champion: Judged) -> None:
    """Forty of each kind are there; a policy that wants fifty is told that ten are missing."""
    strict = dataclasses.replace(POLICY, least_subtype_positives=50)
    gates = {g.id: g for g in judge_candidate(champion, model(3.2, seed=6), strict)}
    kind = gates[f"G1-{LABELS[1]}"]
    assert kind.inconclusive
    assert not kind.refuses
    assert "10 more" in kind.sentence


def test_a_patient_in_training_and_holdout_is_a_leak() -> None:
    """By key, and by pixels under another key."""
    assert no_leak({"a", "b"}, {"b", "c"}, 0).refuses
    assert no_leak({"a"}, {"c"}, 1).refuses
    assert no_leak({"a"}, {"c"}, 0).passed


def test_a_bundle_that_reads_differently_than_it_was_measured_is_refused() -> None:
    """A thousandth of a logit is rounding, a tenth is another model."""
    assert reproducible(1e-5).passed
    assert reproducible(0.1).refuses


def test_champion_and_candidate_must_have_read_the_same_series(champion: Judged) -> None:
    """Another set of series is a mistake of the caller."""
    fewer = dataclasses.replace(champion, predictions=champion.predictions.part([0, 1]))
    with pytest.raises(ValueError, match="same series"):
        judge_candidate(champion, fewer, POLICY)
