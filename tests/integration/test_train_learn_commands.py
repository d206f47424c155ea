"""``fit``, ``find-lr`` and ``augment`` as a user gives them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
import typer
from click.testing import Result
from PIL import Image
from typer.testing import CliRunner

from tests.learning_kit import SPEC, Squares, write_split_key
from train.cli import fitting
from train.data.cache import build_cache
from train.errors import TrainingError
from train.learn.recipe import Recipe
from train.learn.run_folder import open_run

DRAWN = ["--cleaning", "none", "--sampling", "balanced", "--batch", "6"]
OPTIONS = [*DRAWN, "--precision", "float32", "--device", "cpu"]
TINY = [*OPTIONS, "--epochs", "1", "--augment", "none", "--reestimate-batches", "2"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of squares, some of which are there to measure on, and the key of its patients."""
    made = tmp_path_factory.mktemp("commands")
    write_split_key(made)
    build_cache(made / "cache", Squares(24), SPEC, workers=1)
    build_cache(made / "cache", Squares(3, name="squares-holdout"), SPEC, workers=1)
    return made


def give(*command: str) -> Result:
    """Run one of the commands in this process."""
    app = typer.Typer(rich_markup_mode=None)
    fitting.register(app)
    return CliRunner().invoke(app, list(command))


def test_a_rate_is_suggested_with_its_picture(folder: Path, tmp_path: Path) -> None:
    """One sentence says which to take."""
    out = tmp_path / "deep" / "rates.png"
    ended = give("find-lr", "--cache", str(folder / "cache"), "--out", str(out), *OPTIONS)
    assert ended.exit_code == 0, ended.output
    assert "(take this one)" in ended.output
    assert Image.open(out).size[0] > 400


def test_the_contact_sheet_is_drawn_and_unknown_presets_are_not(folder: Path) -> None:
    """The error names those that there are."""
    where = ["augment", "--cache", str(folder / "cache"), "--out", str(folder / "sheet.png")]
    assert give(*where, "--preset", "recipe", "--rows", "2").exit_code == 0
    assert Image.open(folder / "sheet.png").size[0] > 400
    refused = give(*where, "--preset", "mixup")
    assert isinstance(refused.exception, TrainingError)
    assert "none, paper, recipe, simulated" in str(refused.exception)


@pytest.mark.slow
def test_heads_to_measure_on_are_not_learnt_from(folder: Path, tmp_path: Path) -> None:
    """They are left out with a sentence; the run says how patients were parted."""
    ended = give("fit", "--cache", str(folder / "cache"), "--out", str(tmp_path / "run"), *TINY)
    assert ended.exit_code == 0, ended.output
    assert "24 slices of heads to measure on are left out" in ended.output
    assert "Not for clinical use" in ended.output
    opened = open_run(tmp_path / "run")
    assert opened.data["datasets"] == ["squares"]
    assert opened.split is not None
    assert opened.split.file == str((folder / "split.key").resolve())


@pytest.mark.slow
def test_a_file_of_weights_is_started_from(folder: Path, tmp_path: Path) -> None:
    """The recipe names it, its terms are kept, and the body is frozen at first."""
    import torchvision

    torch.manual_seed(1)
    torch.save(torchvision.models.resnet18(weights=None).state_dict(), tmp_path / "own.pth")
    where = ["--cache", str(folder / "cache"), "--out", str(tmp_path / "run"), "--preset", "paper"]
    weights = ["--pretrained", str(tmp_path / "own.pth")]
    ended = give("fit", *where, *weights, *TINY, "--size-px", "32")
    assert ended.exit_code == 0, ended.output
    opened = open_run(tmp_path / "run")
    assert opened.recipe.start.startswith("own.pth ")
    assert opened.recipe.frozen_epochs == 1
    assert opened.start is not None
    assert opened.start.non_commercial


@pytest.mark.slow
def test_a_run_is_started_from(folder: Path, tmp_path: Path) -> None:
    """On other data it goes on where that one ended, and says whose weights it has."""
    where = ["--cache", str(folder / "cache"), "--size-px", "32", *TINY]
    assert give("fit", *where, "--out", str(tmp_path / "one")).exit_code == 0
    more = ["--pretrained", str(tmp_path / "one"), "--peak-rate", "1e-9"]
    ended = give("fit", *where, "--out", str(tmp_path / "two"), *more)
    assert ended.exit_code == 0, ended.output
    first, second = (open_run(tmp_path / name) for name in ("one", "two"))
    assert second.start is not None
    assert second.start.name == second.recipe.start
    assert second.start.learnt_from == "squares"
    name = "head.1.weight"
    weights = [one.network.state_dict()[name] for one in (first, second)]
    torch.testing.assert_close(*weights, atol=1e-6, rtol=0)


def test_a_file_that_holds_no_weights_is_refused(folder: Path, tmp_path: Path) -> None:
    """One sentence, before anything is written."""
    (tmp_path / "notes.pth").write_text("buy milk")
    where = ["fit", "--cache", str(folder / "cache"), "--out", str(tmp_path / "run")]
    ended = give(*where, "--pretrained", str(tmp_path / "notes.pth"), *TINY)
    assert isinstance(ended.exception, TrainingError)
    assert "no state dictionary" in str(ended.exception)
    assert not (tmp_path / "run").exists()


def test_the_help_explains_every_field_of_the_recipe() -> None:
    """Each with its default; those that the cache decides are not asked for."""
    shown = give("fit", "--help").output
    hidden = set(fitting._NOT_ASKED)
    for one in dataclasses.fields(Recipe):
        option = f"--{one.name.replace('_', '-')}"
        assert (f"{option} " in shown or f"{option} /" in shown) is (one.name not in hidden), option
    assert "Example: python -m train fit" in shown
