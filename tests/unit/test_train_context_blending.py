"""How far the sequence stage is believed, label by label."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from ichnode.domain.findings import LABELS
from ichnode.nets.calibration import SeriesLogits, combine
from tests.judged import made_up
from train.context.blending import FEWEST, SHARES, blend, choose_blend
from train.judge.metrics import auroc
from train.predictions import Predictions


def _shaken(given: Predictions, spread: float, seed: int) -> Predictions:
    """The same series, with noise on every logit."""
    rng = np.random.default_rng(seed)
    return Predictions(
        tuple(
            dataclasses.replace(
                one,
                slice_logits=one.slice_logits + rng.normal(0, spread, one.slice_logits.shape),
                series_logits=one.series_logits + rng.normal(0, spread, one.series_logits.shape),
            )
            for one in given.series
        )
    )


def _areas(given: Predictions) -> np.ndarray:
    """AUROC of slices and series for each label."""
    columns = range(len(LABELS))
    return np.array(
        [
            [auroc(given.slice_logits[:, k], given.slice_truth[:, k]) for k in columns],
            [auroc(given.series_logits[:, k], given.series_truth[:, k]) for k in columns],
        ]
    )


@pytest.mark.parametrize(("own", "context"), [(0.5, 4.0), (4.0, 0.5), (2.0, 2.0)])
def test_what_is_blended_is_not_worse_than_the_slice_network(own: float, context: float) -> None:
    """Whichever is better, on the series that chose the shares no label loses."""
    truth = made_up(120, seed=3)
    first, second = _shaken(truth, own, 1), _shaken(truth, context, 2)
    chosen = choose_blend(first, second)
    assert (_areas(blend(first, second, chosen.spec)) >= _areas(first)).all()


def test_the_better_one_is_believed() -> None:
    """A context that guesses gets no share; one that knows where the slices guess gets all."""
    truth = made_up(150, seed=4)
    guess = _shaken(truth, 50.0, 1)
    assert choose_blend(truth, guess).spec.series_blend == (0.0,) * len(LABELS)
    assert min(choose_blend(guess, truth).spec.series_blend) == SHARES[-1]


def test_two_that_err_apart_are_blended() -> None:
    """Where both are equally wrong in their own ways, the share lies between."""
    truth = made_up(400, seed=5)
    spec = choose_blend(_shaken(truth, 3.0, 1), _shaken(truth, 3.0, 2)).spec
    assert set(spec.slice_blend) <= {0.25, 0.5, 0.75}


def test_too_few_cases_leave_the_slice_network_alone() -> None:
    """Without ten positives and ten negatives nothing is chosen, nor where nothing is known."""
    truth = made_up(60, seed=6)
    guess = _shaken(truth, 50.0, 1)
    cut = []
    positives = 0
    for one in guess.series:
        known = one.series_truth.copy()
        positives += int(known[0] == 1)
        known[0] = np.nan if known[0] == 1 and positives >= FEWEST else known[0]
        slices = np.full_like(one.slice_truth, np.nan)
        cut.append(dataclasses.replace(one, series_truth=known, slice_truth=slices))
    chosen = choose_blend(Predictions(tuple(cut)), truth)
    assert chosen.spec.series_blend[0] == 0.0
    assert chosen.spec.slice_blend == (0.0,) * len(LABELS)


def test_blending_is_that_of_serving() -> None:
    """What is measured here is what a bundle with a context network says."""
    truth = made_up(3, seed=7)
    own, context = _shaken(truth, 1.0, 1), _shaken(truth, 1.0, 2)
    spec = choose_blend(own, context).spec
    spec = dataclasses.replace(spec, slice_blend=(0.25,) * 6, series_blend=(0.0, 0.5, 1, 0, 0, 0))
    found = blend(own, context, spec).series[1]
    said = SeriesLogits(context.series[1].slice_logits, context.series[1].series_logits)
    expected = combine(own.series[1].slice_logits, "max", said, spec)
    np.testing.assert_array_equal(expected.slices, found.slice_logits)
    np.testing.assert_array_equal(
        0.5 * own.series[1].series_logits[1] + 0.5 * said.series[1], found.series_logits[1]
    )
