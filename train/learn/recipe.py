"""How a network is trained: one frozen record, kept with the result, that decides the whole run."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, get_args, get_type_hints

from ichnode.domain.findings import LABELS, Label
from ichnode.nets.manifest import (
    MASK_ARCHITECTURES,
    SLICE_ARCHITECTURES,
    PreprocessSpec,
    canonical,
)
from train.data.window import WINDOWS
from train.errors import TrainingError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

LabelSet = Literal["all", "any", "subtypes"]
Cleaning = Literal["paper", "careful", "none"]  # the presets of `train.data.cleaning`
Sampling = Literal["natural", "balanced", "paper"]
Augment = Literal["none", "paper", "recipe", "simulated", "single"]
Precision = Literal["auto", "float32", "bfloat16", "float16"]

BRAIN_HU, SUBDURAL_HU, BONE_HU = (0.0, 80.0), (-20.0, 180.0), (-800.0, 2000.0)
_ANSWERS: Mapping[str, tuple[Label, ...]] = MappingProxyType(
    {"all": LABELS, "any": LABELS[:1], "subtypes": LABELS[1:]}
)
Record = TypeVar("Record", bound="DataclassInstance")
_FREE = ("minutes",)  # may differ when a run goes on
_LOCAL = ("resnet18_local", *MASK_ARCHITECTURES)  # which see places


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides a training run; with the same data, the same weights on a CPU.

    With `minutes` the clock may end the run before `epochs` do, so the same recipe gives the same
    weights only where that does not happen. Rates and momenta are those of fastai's one-cycle.

    References
    ----------
    Smith LN, A disciplined approach to neural network hyper-parameters, 2018.
    Howard J, Gugger S, fastai: A Layered API for Deep Learning, Information 2020.
    """

    architecture: Annotated[str, "Network; ends in _concat for fastai's head."] = "resnet18"
    labels: Annotated[
        LabelSet,
        "What it answers: all six labels, blood or not, or the subtypes of slices with blood.",
    ] = "all"
    start: Annotated[str, "What its weights start from."] = "random weights"

    size_px: Annotated[int, "Rows and columns of what the network sees in the end."] = 256
    first_sizes: Annotated[
        tuple[tuple[int, float], ...],
        "Smaller images first, as SIZE:SHARE of the run: 64:0.3,128:0.3.",
    ] = ()
    windows_hu: Annotated[
        tuple[tuple[float, float], ...], "Windows as LOW:HIGH in HU: 0:80,-20:180."
    ] = (BRAIN_HU, SUBDURAL_HU, BONE_HU)
    context_slices: Annotated[int, "Neighbouring slices on either side, as further channels."] = 1
    crop: Annotated[Literal["head", "middle"], "As the cache has it."] = "head"
    crop_margin: Annotated[float, "As the cache has it."] = 0.04
    slab_below_mm: Annotated[float, "As the cache has it."] = 3.0
    slab_target_mm: Annotated[float, "As the cache has it."] = 5.0
    gap_ratio: Annotated[float, "As the cache has it."] = 1.5

    cleaning: Annotated[
        Cleaning,
        "Which slices without brain are not learnt from: none of them, blank ones, or more.",
    ] = "careful"
    sampling: Annotated[
        Sampling,
        "Slices of an epoch: as they come, as many without blood as with, or half as many.",
    ] = "natural"
    augment: Annotated[Augment, "How images are disturbed."] = "recipe"
    window_dropout: Annotated[float, "Chance that a sample loses one of its windows."] = 0.0

    epochs: Annotated[int, "Times over the slices, with the whole network learning."] = 5
    frozen_epochs: Annotated[int, "Times before that, with only the head learning."] = 0
    minutes: Annotated[
        float, "End the run by the clock, its schedule included; 0 for no limit."
    ] = 0.0
    steps: Annotated[
        int, "End the run after so many steps in place of epochs, its schedule included; 0 for no."
    ] = 0
    batch: Annotated[int, "Slices a step, over all processes."] = 64

    peak_rate: Annotated[float, "Highest learning rate; find-lr suggests one."] = 3e-4
    rate_spread: Annotated[float, "How many times slower the first layers learn than the head."] = (
        1.0
    )
    warm_share: Annotated[float, "Share of the run in which the rate rises."] = 0.25
    first_divisor: Annotated[float, "The rate starts at its peak divided by this."] = 25.0
    last_divisor: Annotated[float, "The rate ends at its peak divided by this."] = 1e5
    momentum: Annotated[tuple[float, float], "Highest and lowest momentum."] = (0.95, 0.85)
    square_momentum: Annotated[float, "Of the squared gradients."] = 0.99
    epsilon: Annotated[float, "Adam's."] = 1e-5
    weight_decay: Annotated[float, "Decoupled; none on normalisation and bias."] = 0.01
    clip: Annotated[float, "Greatest norm of the gradient; 0 for no limit."] = 1.0

    bn_affine: Annotated[bool, "Normalisation of a frozen body goes on learning."] = True
    bn_stats: Annotated[bool, "Statistics of normalisation in the body follow the data."] = True
    sync_bn: Annotated[bool, "Normalise over all processes (GPUs only)."] = False

    any_weight: Annotated[float, "Of blood or not in the loss; the subtypes weigh 1."] = 2.0
    place_weight: Annotated[
        float, "Of saying where the blood is, for networks that decide by local evidence."
    ] = 0.0
    mask_weight: Annotated[
        float, "Of each place of a mask, for networks that draw where the blood is."
    ] = 1.0
    dice_weight: Annotated[float, "Of the overlap of their masks with the truth."] = 1.0
    averaging: Annotated[float, "Decay of the averaged weights; 0 for none."] = 0.999
    reestimate_batches: Annotated[
        int, "Batches that normalisation is measured again on at the end; 0 for none."
    ] = 200

    precision: Annotated[Precision, "Of the network's arithmetic; auto takes what is quick."] = (
        "auto"
    )
    deterministic: Annotated[bool, "Use slower arithmetic that repeats itself on a GPU."] = False
    seed: Annotated[int, "Of everything that is drawn."] = 7

    @property
    def asks_where(self) -> bool:
        """Whether the loss asks where the blood is."""
        draws = self.architecture in MASK_ARCHITECTURES
        return self.place_weight > 0 or (draws and self.mask_weight + self.dice_weight > 0)

    @property
    def answers(self) -> tuple[Label, ...]:
        """The labels of the network's outputs, in order."""
        return _ANSWERS[self.labels]

    def preprocess(self) -> PreprocessSpec:
        """Return the preprocessing that goes into the bundle."""
        names = (one.name for one in dataclasses.fields(PreprocessSpec))
        return PreprocessSpec(**{name: getattr(self, name) for name in names})

    def like(self, spec: PreprocessSpec) -> Recipe:
        """Return this recipe for a cache: head box and slabs as there, windows and size as here."""
        kept = ("crop", "crop_margin", "slab_below_mm", "slab_target_mm", "gap_ratio")
        return dataclasses.replace(self, **{name: getattr(spec, name) for name in kept})

    def same_run(self, other: Recipe) -> bool:
        """Say whether a run of `other` may go on as one of this; only its time may differ."""
        free = {name: getattr(self, name) for name in _FREE}
        return dataclasses.replace(other, **free) == self

    def to_json(self) -> str:
        """Return the one text of this recipe; see `nets.manifest.canonical`."""
        return canonical(self)


def read_recipe(text: str) -> Recipe:
    """Return a recipe from its JSON text; see `read_record`."""
    return read_record(Recipe, text)


def read_record(kind: type[Record], text: str) -> Record:
    """Return a frozen record, such as a recipe, from the JSON text that `canonical` made of it.

    Raises
    ------
    TrainingError
        When it has a field that we do not know.
    """
    content = json.loads(text)
    known = {one.name for one in dataclasses.fields(kind)}
    if unknown := sorted(set(content) - known):
        raise TrainingError(f"The recipe has a field of another version, {unknown[0]}.")
    return kind(**{name: _tuples(value) for name, value in content.items()})


def check(recipe: Recipe) -> None:
    """Refuse what fits the form and makes no sense.

    Raises
    ------
    TrainingError
        With the one thing to change.
    """
    hints = get_type_hints(Recipe)  # without what is said of them
    for name in ("labels", "cleaning", "sampling", "augment", "precision"):
        if getattr(recipe, name) not in (allowed := get_args(hints[name])):
            raise TrainingError(f"{name} is one of {', '.join(allowed)}.")
    shares = [share for _, share in recipe.first_sizes]
    rules = {
        f"architecture is one of {', '.join(SLICE_ARCHITECTURES)}": recipe.architecture
        in SLICE_ARCHITECTURES,
        "epochs, batch and peak_rate are above 0": min(recipe.epochs, recipe.batch) >= 1
        and recipe.peak_rate > 0,
        "frozen_epochs and steps are not below 0": min(recipe.frozen_epochs, recipe.steps) >= 0,
        "first_sizes are 32 px or more and their shares sum to less than 1": all(
            size >= 32 and share > 0 for size, share in recipe.first_sizes
        )
        and sum(shares) < 1,
        "averaging is 0 or more and below 1": 0 <= recipe.averaging < 1,
        f"place_weight needs one of the architectures {', '.join(_LOCAL)}": recipe.place_weight == 0
        or recipe.architecture in _LOCAL,
        "mask_weight and dice_weight are not below 0": min(recipe.mask_weight, recipe.dice_weight)
        >= 0,
        "each window is (low, high)": all(low < high for low, high in recipe.windows_hu),
    }
    for sentence, kept in rules.items():
        if not kept:
            raise TrainingError(f"The recipe makes no sense: {sentence}.")


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


_LOCAL_EVIDENCE = Recipe(
    architecture="resnet18_local",
    cleaning="none",
    sampling="balanced",
    augment="simulated",
    epochs=12,
    batch=32,
    peak_rate=1.5e-3,
    last_divisor=2000.0,
    weight_decay=0.05,
    place_weight=1.0,
    averaging=0.995,
)

PRESETS: Mapping[str, Recipe] = MappingProxyType(
    {
        "recipe": Recipe(),
        "paper": Recipe(
            architecture="resnet18_concat",
            labels="any",
            windows_hu=(WINDOWS["brain"], WINDOWS["subdural"], WINDOWS["brain and bone"]),
            context_slices=0,
            cleaning="paper",
            sampling="paper",
            augment="paper",
            epochs=5,
            frozen_epochs=1,
            batch=256,
            peak_rate=1e-3,
            rate_spread=100.0,
            any_weight=1.0,
            averaging=0.0,
        ),
        "local": _LOCAL_EVIDENCE,
        "mask": dataclasses.replace(_LOCAL_EVIDENCE, architecture="compact_mask"),
        "randomised": dataclasses.replace(
            _LOCAL_EVIDENCE,
            architecture="compact_mask",
            first_sizes=((112, 0.35), (160, 0.45)),
            augment="single",
            window_dropout=0.1,
            batch=48,
            averaging=0.998,
        ),
        "weak": Recipe(
            cleaning="none",
            epochs=16,
            batch=160,
            peak_rate=7e-4,
            last_divisor=1000.0,
            averaging=0.99,
        ),
    }
)
"""Recipes by name: ours past the paper, the paper's, local evidence on simulated scans, masks on
them, masks on randomised heads for single slices too, and labels of whole series."""
