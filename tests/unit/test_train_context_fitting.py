"""The sequence stage: it learns what no slice shows alone, repeats itself, and goes on."""

from __future__ import annotations

import dataclasses
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from ichnode.domain.findings import LABELS
from ichnode.nets.context import LONGEST, ContextNet
from tests.context_kit import made_up_features
from train.context.fitting import fit_context
from train.context.losses import context_loss, slice_loss
from train.context.recipe import ContextRecipe, check, read_context_recipe
from train.context.sequences import SeriesRows, as_batch, disturb
from train.context.watching import watch_series
from train.errors import TrainingError
from train.judge.metrics import auroc

QUICK = ContextRecipe(hidden=16, layers=1, dropout=0.0, epochs=12, batch=8, peak_rate=1e-2)
CPU = torch.device("cpu")


def neighbourly(folder: Path, count: int = 64, length: int = 8):
    """Series in which a slice is positive when the one below it is marked.

    The features of a slice say nothing of its own label.
    """
    rng = np.random.default_rng(8)
    sign = rng.choice([-1.0, 1.0], (count, length))
    features = rng.normal(0, 0.3, (count, length, 8))
    features[..., 0] += sign
    shown = np.zeros((count, length))
    shown[:, 1:] = sign[:, :-1] > 0
    shown[: count // 4] = 0  # whole series without: their slices are noise
    features[: count // 4, :, 0] = rng.normal(0, 0.3, (count // 4, length))
    truth = np.repeat(shown[..., None], len(LABELS), axis=2)
    return (*made_up_features(folder, features, truth), features, shown)


def test_it_learns_what_a_slice_alone_does_not_show(tmp_path: Path) -> None:
    """A linear head on a slice's features guesses; the network knows from the neighbours."""
    kept, series, features, shown = neighbourly(tmp_path)
    learnt, unseen = series[::2], series[1::2]
    found = fit_context(QUICK, kept, learnt, unseen, tmp_path / "context", quiet=True)

    mixed = slice(len(series) // 4, None)
    rows, truth = features[mixed].reshape(-1, 8), shown[mixed].reshape(-1)
    design = np.column_stack([rows, np.ones(len(rows))])
    half = len(rows) // 2
    weights, *_ = np.linalg.lstsq(design[:half], truth[:half], rcond=None)
    assert abs(auroc(design[half:] @ weights, truth[half:]) - 0.5) < 0.1
    only_mixed = [one for one in unseen if one.series_truth[0]]
    by_context = watch_series(found.network, kept, only_mixed, QUICK, CPU)
    assert by_context.slice_auroc > 0.95


def test_the_same_seed_gives_the_same_weights_and_a_stop_changes_nothing(tmp_path: Path) -> None:
    """A run that Ctrl-C stopped within an epoch ends where one that was left alone ends."""
    kept, series, *_ = neighbourly(tmp_path, count=40)
    recipe = dataclasses.replace(QUICK, dropout=0.2, epochs=3, batch=8, averaging=0.9)
    whole = fit_context(recipe, kept, series[:32], series[32:], tmp_path / "a", quiet=True)
    asked = []

    class Pressed(list):
        """Series that press Ctrl-C when they are read for the sixth step."""

        def __getitem__(self, index):
            asked.append(index)
            if len(asked) == 6 * recipe.batch:
                os.kill(os.getpid(), signal.SIGINT)
            return super().__getitem__(index)

    with pytest.raises(KeyboardInterrupt):
        fit_context(recipe, kept, Pressed(series[:32]), series[32:], tmp_path / "b", quiet=True)
    stopped = torch.load(tmp_path / "b" / "checkpoint.pt", weights_only=True)["step"]
    assert 4 < stopped < 12
    gone_on = fit_context(recipe, kept, series[:32], series[32:], tmp_path / "b", quiet=True)
    for name, weights in whole.network.state_dict().items():
        assert torch.equal(weights, gone_on.network.state_dict()[name]), name
    lines = [(tmp_path / f / "metrics.csv").read_text().splitlines() for f in ("a", "b")]
    assert [line.split(",")[0] for line in lines[0]] == [line.split(",")[0] for line in lines[1]]
    assert (tmp_path / "b" / "plots" / "loss.png").is_file()


def test_another_recipe_does_not_go_on_in_the_same_folder(tmp_path: Path) -> None:
    """A checkpoint belongs to one recipe."""
    kept, series, *_ = neighbourly(tmp_path, count=40)
    recipe = dataclasses.replace(QUICK, epochs=1)
    fit_context(recipe, kept, series[:32], series[32:], tmp_path / "a", quiet=True)
    other = dataclasses.replace(recipe, noise=0.1)
    with pytest.raises(TrainingError, match="another recipe"):
        fit_context(other, kept, series[:32], series[32:], tmp_path / "a", quiet=True)


def test_labels_of_series_alone_teach_the_series(tmp_path: Path) -> None:
    """With no slice labelled the heads of the series learn and the head of the slices stays."""
    kept, series, *_ = neighbourly(tmp_path)
    weak = [
        dataclasses.replace(one, slice_truth=np.full_like(one.slice_truth, np.nan))
        for one in series
    ]
    recipe = dataclasses.replace(QUICK, weight_decay=0.0)
    found = fit_context(recipe, kept, weak[::2], weak[1::2], tmp_path / "context", quiet=True)
    assert found.watched.series_auroc > 0.95
    assert np.isnan(found.watched.slice_auroc)
    torch.manual_seed(recipe.seed)
    untouched = ContextNet(8, 6, recipe.hidden, recipe.layers).slice_head
    assert torch.equal(untouched.weight, found.network.slice_head.weight)


def test_unknown_labels_contribute_nothing(tmp_path: Path) -> None:
    """The loss is the same whatever is said where the truth is NaN."""
    kept, series, *_ = neighbourly(tmp_path, count=4)
    truth = torch.from_numpy(np.stack([one.slice_truth for one in series]))
    truth[0, 3], truth[2, :, 1] = float("nan"), float("nan")
    logits = torch.zeros_like(truth)
    weights = torch.tensor([2.0, 1, 1, 1, 1, 1])
    before = slice_loss(logits, truth, weights)
    logits[truth.isnan()] = 40.0
    assert torch.equal(before, slice_loss(logits, truth, weights))
    assert kept.known.all()


def test_a_series_of_many_slices_weighs_as_much_as_one_of_few() -> None:
    """Slices are averaged within their series first."""
    truth = torch.full((2, 10, 6), float("nan"))
    truth[0], truth[1, :2] = 1.0, 0.0
    logits = torch.full((2, 10, 6), 3.0)
    each = torch.nn.functional.softplus(torch.tensor([-3.0, 3.0]))
    torch.testing.assert_close(each.mean(), slice_loss(logits, truth, torch.ones(6)))


def test_long_series_are_read_at_even_distances(tmp_path: Path) -> None:
    """Of 150 slices 64 are shown, the first and the last among them, with their own labels."""
    rng = np.random.default_rng(3)
    features = rng.normal(0, 1, (2, 150, 4))
    truth = np.repeat(np.arange(150)[None, :, None] % 2, 2, axis=0) * np.ones(len(LABELS))
    kept, series = made_up_features(tmp_path, features, truth)
    short = SeriesRows(
        series[1].rows[:3], series[1].positions_mm[:3], series[1].slice_truth[:3], truth[1, 0]
    )
    batch = as_batch([series[0], short], kept)
    shown = np.round(np.linspace(0, 149, LONGEST)).astype(int)
    expected = features[0, shown].astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(expected, batch.features[0].numpy())
    np.testing.assert_array_equal(truth[0, shown], batch.slice_truth[0].numpy())
    assert batch.present.sum(dim=1).tolist() == [LONGEST, 3]
    assert bool(batch.slice_truth[1, 3:].isnan().all())
    assert bool((batch.features[1, 3:] == 0).all())


def test_features_are_disturbed_and_truth_is_not(tmp_path: Path) -> None:
    """Noise, lost features and lost slices, as often as the recipe says; a seed repeats them."""
    features = np.ones((8, LONGEST, 50))
    kept, series = made_up_features(tmp_path, features, np.zeros((8, LONGEST, len(LABELS))))
    batch = as_batch(series, kept)
    recipe = ContextRecipe(noise=0.02, element_dropout=0.05, slice_dropout=0.02)
    shown = disturb(batch, recipe, torch.Generator().manual_seed(1))
    again = disturb(batch, recipe, torch.Generator().manual_seed(1))
    lost = shown.features == 0
    slices = lost.all(dim=2)
    assert float(slices.float().mean()) == pytest.approx(0.02, abs=0.015)
    assert float(lost[~slices].float().mean()) == pytest.approx(0.05, abs=0.005)
    assert float(shown.features[~lost].std()) == pytest.approx(0.02, abs=0.002)
    assert torch.equal(shown.features, again.features)
    assert torch.equal(shown.places, batch.places)
    assert torch.equal(shown.slice_truth, batch.slice_truth)


def test_every_part_of_the_loss_counts_as_the_recipe_says(tmp_path: Path) -> None:
    """Slices 1, series 0.25, weak head 0.1: each alone is its share of the whole."""
    kept, series, *_ = neighbourly(tmp_path, count=4)
    batch = as_batch(series, kept)
    torch.manual_seed(2)
    network = ContextNet(8, hidden=4, layers=1)
    with torch.inference_mode():
        found = network(batch.features, batch.places, batch.present)
    parts = [(1.0, 0.0, 0.0), (0.0, 0.25, 0.0), (0.0, 0.0, 0.1)]
    losses = [
        context_loss(
            found,
            batch,
            ContextRecipe(slice_weight=a, series_weight=b, weak_weight=c),
        )
        for a, b, c in parts
    ]
    torch.testing.assert_close(sum(losses), context_loss(found, batch, ContextRecipe()))
    assert min(map(float, losses)) > 0


def test_one_class_alone_is_refused_with_a_sentence(tmp_path: Path) -> None:
    """Without series without blood there is nothing to tell apart."""
    kept, series, *_ = neighbourly(tmp_path, count=40)
    bloody = [one for one in series if one.series_truth[0]]
    with pytest.raises(TrainingError, match="without blood"):
        fit_context(QUICK, kept, bloody, series, tmp_path / "a", quiet=True)
    with pytest.raises(TrainingError, match="no training series"):
        fit_context(QUICK, kept, [], series, tmp_path / "a", quiet=True)


def test_a_recipe_is_read_back_and_checked() -> None:
    """Its text is the recipe; a field of another version or a senseless value is refused."""
    recipe = ContextRecipe(hidden=32, noise=0.1)
    assert read_context_recipe(recipe.to_json()) == recipe
    with pytest.raises(TrainingError, match="another version"):
        read_context_recipe('{"width": 3}')
    for wrong in ({"epochs": 0}, {"slice_dropout": 1.0}, {"hidden": 0}, {"warm_share": 0.0}):
        with pytest.raises(TrainingError, match="makes no sense"):
            check(dataclasses.replace(recipe, **wrong))


def test_several_processes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under torchrun each process would write the same files."""
    kept, series, *_ = neighbourly(tmp_path, count=40)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(TrainingError, match="without torchrun"):
        fit_context(QUICK, kept, series[:32], series[32:], tmp_path / "a", quiet=True)
