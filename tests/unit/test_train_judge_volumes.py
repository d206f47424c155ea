"""Factors for volumes are chosen honestly, and what is not good enough is not shown."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from ichnode.domain.findings import LABELS
from tests.judged import AS_IT_IS, HALF, made_up
from train.errors import TrainingError
from train.judge.amounts import estimates_ml
from train.judge.calibrating import series_probabilities
from train.judge.evaluation import evaluate
from train.judge.page import About, draw_all, render
from train.judge.volumes import choose_volume, errors, volume_class
from train.predictions import Predictions, read_predictions, write_predictions


def measured(count: int = 150, *, noise: float = 0.1, seed: int = 1, **more: object) -> Predictions:
    """Made-up series whose masks are 1.25 times too large, give or take `noise`."""
    rng = np.random.default_rng(seed)
    series = []
    for one in made_up(count, seed=seed, **more).series:  # type: ignore[arg-type]
        ml = np.where(one.series_truth[1:] == 1, np.exp(rng.uniform(np.log(0.3), np.log(60), 5)), 0)
        true = np.array([ml.sum(), *ml])
        raw = 1.25 * true * np.exp(rng.normal(0, noise, 6)) + 0.001
        series.append(dataclasses.replace(one, raw_ml=raw, true_ml=true))
    return Predictions(tuple(series))


DATA = measured(dataset="simulated-holdout")


def test_the_factor_undoes_what_is_constant() -> None:
    """Masks that are too large by a quarter are scaled down; the rest of the error stays."""
    volume = choose_volume(DATA)
    assert volume is not None
    assert volume.scale[0] == pytest.approx(0.8, rel=0.03)
    assert volume.median_relative_error == pytest.approx(0.67 * 0.1, abs=0.03)
    assert volume.limits_ml[0] < 0 < volume.limits_ml[1]
    assert "simulated heads" in volume.how


def test_a_good_volume_is_shown_and_a_bad_one_is_not() -> None:
    """The limit is a median of 30 % above 5 ml; asked for, "any" is shown whatever it is."""
    good, bad = choose_volume(DATA), choose_volume(measured(noise=1.2))
    assert good is not None
    assert good.shown[0] == "any"
    assert bad is not None
    assert bad.shown == ()
    asked = choose_volume(measured(noise=1.2), shown=True)
    assert asked is not None
    assert asked.shown == ("any",)
    off = choose_volume(DATA, shown=False)
    assert off is not None
    assert off.shown == ()
    assert off.how == good.how  # a bundle whose volume is switched off later says no other thing


def test_a_kind_with_few_series_has_the_factor_of_all() -> None:
    """And is not shown: nobody knows how good it would be."""
    few = np.flatnonzero(DATA.true_ml[:, 1] == 0)
    rare = np.flatnonzero(DATA.true_ml[:, 1] > 0)[:5]
    volume = choose_volume(DATA.part(np.sort(np.concatenate([few, rare]))))
    assert volume is not None
    assert volume.scale[1] == volume.scale[0]
    assert "epidural" not in volume.shown


def test_without_masks_or_truth_there_is_no_volume() -> None:
    """Where it was asked for, the sentence says what is missing."""
    bare = made_up(60)
    assert choose_volume(bare) is None
    assert choose_volume(bare, shown=False) is None
    with pytest.raises(TrainingError, match="draws masks"):
        choose_volume(bare, shown=True)


def test_the_errors_are_of_patients_that_had_no_part_in_the_factor() -> None:
    """One patient who is far off moves the figures, and a factor of its own would hide it."""
    whole = choose_volume(DATA)
    assert whole is not None
    again = errors(estimates_ml(DATA, whole)[:, 0], DATA.true_ml[:, 0])
    assert whole.mean_absolute_error_ml != round(again.mean_absolute_error_ml, 3)
    assert whole.mean_absolute_error_ml == pytest.approx(again.mean_absolute_error_ml, rel=0.1)


def test_errors_are_those_of_bland_and_altman() -> None:
    """Of series without blood or without a figure nothing is said."""
    found = errors(np.array([2.0, 5.0, np.nan, 3.0]), np.array([1.0, 3.0, 4.0, 0.0]))
    assert (found.series, found.relative_of) == (2, 1)
    assert found.mean_absolute_error_ml == found.bias_ml == 1.5
    assert found.limits_ml == pytest.approx((1.5 - 1.96 * 0.5**0.5, 1.5 + 1.96 * 0.5**0.5))
    assert found.median_relative_error == pytest.approx(2 / 3)
    assert np.isnan(errors(np.empty(0), np.empty(0)).bias_ml)


@pytest.mark.parametrize(
    ("ml", "name"),
    [
        (0.0, ""),
        (np.nan, ""),
        (0.05, "below 0.1 ml"),
        (1.0, "0.1 to 1 ml"),
        (31, "more than 30 ml"),
    ],
)
def test_a_volume_has_a_class(ml: float, name: str) -> None:
    """None where there is no blood, or nobody knows how much."""
    assert volume_class(ml) == name


def test_the_evaluation_says_what_is_found_and_how_far_off() -> None:
    """By true volume and by kind; each series with blood is in one class of volume."""
    volume = choose_volume(measured(seed=2))
    found = evaluate(DATA, AS_IT_IS, HALF, volume=volume, draws=50)
    bleeding = int((DATA.true_ml[:, 0] > 0).sum())
    by_volume = found["found_by_amount"]["by_volume"]
    assert sum(row["series"] for row in by_volume) == bleeding
    assert [row["group"] for row in found["found_by_amount"]["by_kind"]] == list(LABELS[1:])
    whole = sum(row["urgent"]["hits"] for row in by_volume)
    assert whole == found["triage"]["urgent"]["sensitivity"]["hits"]
    told = found["found_by_amount"]["told_apart"]
    assert [(row["label"], row["least_ml"]) for row in told][:3] == [
        ("any", 1.0), ("any", 5.0), ("epidural", 1.0),
    ]  # fmt: skip
    large = (DATA.series_truth[:, 0] == 1) & (DATA.true_ml[:, 0] >= 5)
    assert told[1]["positives"] == int(large.sum()) < bleeding
    p = series_probabilities(DATA, AS_IT_IS)[:, 0]
    below = DATA.series_truth[:, 0] == 0
    pairs = (p[large][:, None] > p[below]) + 0.5 * (p[large][:, None] == p[below])
    assert told[1]["auroc"]["value"] == pytest.approx(pairs.mean(), abs=1e-5)
    off = found["volume"]
    assert off["overall"]["series"] == bleeding
    assert 0 < off["overall"]["median_relative_error"] < 0.2
    low, high = off["overall"]["limits_ml"]
    assert low < off["overall"]["bias_ml"]["value"] < high


def test_the_page_shows_both_as_table_and_plot() -> None:
    """Simulated volumes are called so, and nothing is said where nothing is known."""
    volume = choose_volume(measured(seed=2, dataset="simulated"))
    found = evaluate(DATA, AS_IT_IS, HALF, volume=volume, draws=50)
    pictures = draw_all(found, DATA, AS_IT_IS, HALF, volume)
    text = render(found, pictures, About("a model"))
    assert {"found_by_amount", "volume"} <= set(pictures)
    assert text.count("5 to 30 ml") >= 2
    assert "measured on simulated heads" in text
    bare = made_up(60)
    none = evaluate(bare, AS_IT_IS, HALF, draws=50)
    assert none["found_by_amount"] is None
    assert none["volume"] is None
    text = render(none, draw_all(none, bare, AS_IT_IS, HALF), About("a model"))
    assert "How much blood" not in text
    assert "Limits of agreement" not in text


def test_without_blood_nothing_is_said_of_amounts() -> None:
    """Volumes of 0 ml are known, and there is no figure to make of them."""
    volume = choose_volume(measured(seed=2))
    none = DATA.part(np.flatnonzero(DATA.true_ml[:, 0] == 0))
    found = evaluate(none, AS_IT_IS, HALF, volume=volume, draws=50)
    assert found["found_by_amount"] is None
    assert found["volume"] is None
    pictures = draw_all(found, none, AS_IT_IS, HALF, volume)
    assert not {"found_by_amount", "volume"} & set(pictures)
    assert "How much blood" not in render(found, pictures, About("a model"))


def test_volumes_are_kept_with_the_predictions(tmp_path) -> None:
    """And those of before volumes were kept are read, with none."""
    write_predictions(tmp_path / "new.jsonl", DATA)
    again = read_predictions(tmp_path / "new.jsonl")
    assert np.array_equal(again.raw_ml, DATA.raw_ml)
    assert np.array_equal(again.true_ml, DATA.true_ml)
    old = (tmp_path / "new.jsonl").read_text().replace('"raw_ml"', '"x"').splitlines()
    lines = [json.loads(line) for line in old]
    kept = [{k: v for k, v in line.items() if k not in ("x", "true_ml")} for line in lines]
    (tmp_path / "old.jsonl").write_text("\n".join(map(json.dumps, kept)) + "\n")
    assert np.isnan(read_predictions(tmp_path / "old.jsonl").raw_ml).all()
