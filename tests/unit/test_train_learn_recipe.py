"""The recipe: one record, on the command line and in a file."""

from __future__ import annotations

import dataclasses
import json

import pytest

from ichnode.domain.findings import LABELS
from ichnode.nets.manifest import PreprocessSpec
from train.errors import TrainingError
from train.learn.options import compose, recipe_options
from train.learn.recipe import PRESETS, Recipe, check, read_recipe

SPEC = PreprocessSpec(size_px=128, windows_hu=((0.0, 1.0),), context_slices=0, crop_margin=0.1)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_makes_sense_and_survives_its_file(name: str) -> None:
    """What is written is read again as the same recipe."""
    recipe = PRESETS[name]
    check(recipe)
    assert read_recipe(recipe.to_json()) == recipe


def test_a_recipe_of_another_version_is_refused() -> None:
    """A field that we do not know may mean anything."""
    content = json.loads(Recipe().to_json()) | {"mixup": 0.2}
    with pytest.raises(TrainingError, match="mixup"):
        read_recipe(json.dumps(content))


def test_more_time_is_the_same_run_and_another_rate_is_not() -> None:
    """A run that goes on may be given more minutes, nothing else."""
    recipe = Recipe()
    assert recipe.same_run(dataclasses.replace(recipe, minutes=5.0))
    assert not recipe.same_run(dataclasses.replace(recipe, peak_rate=1e-4))


def test_the_network_answers_for_its_labels() -> None:
    """All six, blood or not, or the five subtypes."""
    answers = {name: Recipe(labels=name).answers for name in ("all", "any", "subtypes")}
    assert answers == {"all": LABELS, "any": LABELS[:1], "subtypes": LABELS[1:]}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"labels": "kinds"}, "all, any, subtypes"),
        ({"architecture": "vgg16"}, "architecture is one of"),
        ({"place_weight": 1.0}, "resnet18_local"),
        ({"first_sizes": ((64, 0.6), (128, 0.5))}, "sum to less than 1"),
        ({"windows_hu": ((80.0, 0.0),)}, "low, high"),
        ({"averaging": 1.0}, "averaging"),
        ({"batch": 0}, "above 0"),
    ],
)
def test_nonsense_is_refused_in_one_sentence(change: dict[str, object], sentence: str) -> None:
    """Each says which field and what it may be."""
    with pytest.raises(TrainingError, match=sentence):
        check(dataclasses.replace(Recipe(), **change))


def test_the_cache_decides_size_and_box_and_the_command_line_the_rest() -> None:
    """Windows are written LOW:HIGH; what is not given is the preset's."""
    asked = {"windows_hu": "0:80,-20:180", "batch": 8, "first_sizes": "64:0.5"}
    recipe = compose("paper", asked, SPEC, with_weights=True)
    assert recipe.windows_hu == ((0.0, 80.0), (-20.0, 180.0))
    assert recipe.first_sizes == ((64, 0.5),)
    assert (recipe.size_px, recipe.crop_margin, recipe.batch) == (128, 0.1, 8)
    assert recipe.frozen_epochs == PRESETS["paper"].frozen_epochs == 1


def test_random_weights_are_not_frozen_unless_asked_for() -> None:
    """A frozen body that knows nothing is of no use."""
    assert compose("paper", {}, SPEC, with_weights=False).frozen_epochs == 0
    assert compose("paper", {"frozen_epochs": 2}, SPEC, with_weights=False).frozen_epochs == 2


@pytest.mark.parametrize("text", ["0-80", "0:80:90", "low:high"])
def test_a_window_that_cannot_be_read_is_explained(text: str) -> None:
    """One sentence with the form."""
    with pytest.raises(TrainingError, match="A:B"):
        compose("recipe", {"windows_hu": text}, SPEC, with_weights=False)


def test_every_field_has_an_option_but_those_of_the_cache() -> None:
    """A new field of the recipe is on the command line by itself."""
    fields = {one.name for one in dataclasses.fields(Recipe)}
    assert set(recipe_options(leave_out=("crop",))) == fields - {"crop"}


def test_masks_are_asked_for_where_a_network_draws_them() -> None:
    """By default of those that do; without any weight the loss asks for labels alone."""
    assert not Recipe().asks_where
    drawing = Recipe(architecture="compact_mask")
    assert drawing.asks_where
    assert not dataclasses.replace(drawing, mask_weight=0.0, dice_weight=0.0).asks_where
    with pytest.raises(TrainingError, match="dice_weight"):
        check(dataclasses.replace(drawing, dice_weight=-1.0))


def test_a_recipe_of_before_there_were_masks_is_read() -> None:
    """What it lacks has its default, which does nothing to the networks of then."""
    written = json.loads(Recipe(place_weight=1.0, architecture="resnet18_local").to_json())
    for name in ("mask_weight", "dice_weight"):
        del written[name]
    assert read_recipe(json.dumps(written)).same_run(
        Recipe(place_weight=1.0, architecture="resnet18_local")
    )
