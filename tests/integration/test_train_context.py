"""The sequence stage from a run to a bundle: both networks and their blend arrive together."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from ichnode.domain.findings import LABELS
from ichnode.nets.bundle import Bundle
from ichnode.nets.manifest import Calibration, ContextSpec, Thresholds
from tests.context_kit import SPEC, as_slices, squares
from train.candidate import Trained, predict_with_bundle, trained_on, write_candidate
from train.context.features import state_digest
from train.context.joining import has_context, joined_networks, open_context, rule_of
from train.context.recipe import ContextRecipe
from train.context.stage import add_context, predict_in_context
from train.context.starting import start_from
from train.data.cache import Cache
from train.data.views import Slices
from train.errors import TrainingError
from train.learn.loop import Conditions, fit
from train.learn.recipe import Recipe
from train.learn.run_folder import OpenedRun, open_run
from train.measuring import predict_run

SLICE = dataclasses.replace(
    Recipe(
        windows_hu=SPEC.windows_hu,
        context_slices=0,
        augment="none",
        epochs=2,
        batch=32,
        averaging=0.0,
        precision="float32",
    ).like(SPEC),
    size_px=SPEC.size_px,
)
SMALL = ContextRecipe(hidden=8, layers=1, epochs=2, batch=8)
SIX = (1.0,) * 6


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    """Forty-eight series of six slices, all labelled."""
    return squares(tmp_path_factory.mktemp("squares"), 48)


@pytest.fixture(scope="module")
def parts(cache: Cache) -> tuple[Slices, Slices]:
    """The slices of half of the patients, and those of the other half."""
    slices = as_slices(cache)
    return (
        slices.of_patients({f"p{number}" for number in range(24)}),
        slices.of_patients({f"p{number}" for number in range(24, 48)}),
    )


@pytest.fixture(scope="module")
def run(parts: tuple[Slices, Slices], tmp_path_factory: pytest.TempPathFactory) -> OpenedRun:
    """A finished run of a slice network that has not learnt much."""
    folder = tmp_path_factory.mktemp("run") / "run"
    fit(SLICE, *parts, folder, conditions=Conditions(device="cpu", quiet=True))
    return open_run(folder)


@pytest.fixture(scope="module")
def joined(
    run: OpenedRun, parts: tuple[Slices, Slices], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The folder of a run with a sequence stage."""
    out = tmp_path_factory.mktemp("joined") / "run2"
    add_context(run, *parts, out, SMALL, quiet=True)
    return out


def test_the_new_run_holds_the_old_one_and_the_stage(run: OpenedRun, joined: Path) -> None:
    """What works on runs finds the slice network in it; the stage lies in a folder of its own."""
    opened = open_run(joined)
    assert state_digest(opened.network) == state_digest(run.network)
    assert opened.recipe == run.recipe
    assert has_context(joined)
    assert not has_context(run.folder)
    assert open_context(opened).recipe == SMALL
    assert rule_of(joined) == "adjacent_mean"
    assert (joined / "context" / "metrics.csv").is_file()
    with pytest.raises(TrainingError, match="no sequence stage"):
        open_context(run)


def test_after_blending_no_label_is_worse_on_the_selection_patients(joined: Path) -> None:
    """A share of none is an answer, so a stage that has learnt nothing costs nothing."""
    figures = open_context(open_run(joined)).result["selection"]
    compared = 0
    for level in ("slices", "series"):
        for label in LABELS:
            alone = figures["slice_network"][level][label]
            both = figures["blended"][level][label]
            assert (alone is None) == (both is None)
            if alone is not None:
                compared += 1
                assert both >= alone
    assert compared >= 4


def test_a_bundle_of_it_says_in_serving_what_was_said_in_training(
    joined: Path, parts: tuple[Slices, Slices], tmp_path: Path
) -> None:
    """Calibration measures what the node will say: both networks, blended by label."""
    mixed = ContextSpec((0.0, 0.25, 0.5, 0.75, 1.0, 0.5), (0.5, 0.0, 1.0, 0.25, 0.75, 0.5))
    copied = tmp_path / "copied"
    shutil.copytree(joined, copied)
    _believe(copied, mixed)
    opened = open_run(copied)
    networks, blend = joined_networks(opened)
    assert blend == mixed
    trained = Trained(
        name="squares",
        version="1",
        networks=networks,
        spec=opened.spec,
        calibration=Calibration(SIX, (0.0,) * 6, SIX, (0.0,) * 6, "adjacent_mean", "not at all"),
        thresholds=Thresholds((0.5,) * 6, 0.2, "by hand"),
        recipe=opened.recipe.to_json(),
        data=trained_on(parts[0]),
        context=blend,
    )
    write_candidate(trained, tmp_path / "bundle")
    served = predict_with_bundle(Bundle.load(tmp_path / "bundle"), parts[1])
    said = predict_run(opened, parts[1])
    np.testing.assert_allclose(served.slice_logits, said.slice_logits, atol=5e-3)
    np.testing.assert_allclose(served.series_logits, said.series_logits, atol=5e-3)


def _believe(run: Path, blend: ContextSpec) -> None:
    """Write another blend into a run."""
    path = run / "context" / "result.json"
    result = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(result | {"blend": dataclasses.asdict(blend)}), encoding="utf-8")


def test_a_finished_stage_is_opened_and_another_one_refused(
    run: OpenedRun, parts: tuple[Slices, Slices], tmp_path: Path
) -> None:
    """The same command does nothing twice; another recipe or other series want another folder."""
    out = tmp_path / "run2"
    first = add_context(run, *parts, out, SMALL, quiet=True)
    before = (out / "context" / "checkpoint.pt").stat().st_mtime_ns
    again = add_context(run, *parts, out, SMALL, quiet=True)
    assert state_digest(first.network) == state_digest(again.network)
    assert before == (out / "context" / "checkpoint.pt").stat().st_mtime_ns
    with pytest.raises(TrainingError, match="another recipe"):
        add_context(run, *parts, out, dataclasses.replace(SMALL, noise=0.5), quiet=True)
    with pytest.raises(TrainingError, match="other series"):
        add_context(run, parts[1], parts[0], out, SMALL, quiet=True)


def test_the_stage_belongs_to_one_network(joined: Path, tmp_path: Path) -> None:
    """Beside another slice network the stage is refused: it has never seen such features."""
    copied = tmp_path / "copied"
    shutil.copytree(joined, copied)
    opened = open_run(copied)
    with torch.no_grad():
        opened.network.head[1].bias.add_(1.0)  # type: ignore[index, operator]
    with pytest.raises(TrainingError, match="another network"):
        open_context(opened)


def test_parts_that_do_not_fit_are_refused(
    run: OpenedRun, joined: Path, parts: tuple[Slices, Slices], tmp_path: Path
) -> None:
    """One patient on both sides, nobody to choose on, a stage on a stage, the run's own folder."""
    nobody = parts[1].of_patients(set())
    with pytest.raises(TrainingError, match="A patient is among"):
        add_context(run, parts[0], parts[0], tmp_path / "a", SMALL)
    with pytest.raises(TrainingError, match="choose the blend on"):
        add_context(run, parts[0], nobody, tmp_path / "a", SMALL)
    with pytest.raises(TrainingError, match="a sequence stage already"):
        add_context(open_run(joined), *parts, tmp_path / "a", SMALL)
    with pytest.raises(TrainingError, match="a run folder of its own"):
        add_context(run, *parts, run.folder, SMALL)
    with pytest.raises(ValueError, match="whole series"):
        add_context(
            run, parts[0].where(parts[0].labels[:, 0] == 1), parts[1], tmp_path / "b", SMALL
        )


def test_training_can_start_from_a_run(run: OpenedRun) -> None:
    """Its network, what it was fed, and the terms of its data go along."""
    recipe, network, origin = start_from(Recipe(size_px=SPEC.size_px), run.folder)
    assert (recipe.architecture, recipe.context_slices) == ("resnet18", 0)
    assert recipe.windows_hu == SPEC.windows_hu
    assert state_digest(network) == state_digest(run.network)
    assert origin.licence == "simulated: Apache-2.0"
    assert origin.name == recipe.start
    assert not origin.non_commercial


def test_predictions_do_not_depend_on_where_features_are_kept(
    joined: Path, parts: tuple[Slices, Slices], tmp_path: Path
) -> None:
    """Features computed anew are those that were kept."""
    opened = open_run(joined)
    kept = predict_in_context(opened, parts[1])
    anew = predict_in_context(opened, parts[1], kept=tmp_path)
    np.testing.assert_array_equal(kept.slice_logits, anew.slice_logits)
    np.testing.assert_array_equal(kept.series_logits, anew.series_logits)
