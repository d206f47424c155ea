"""The recipe on the command line: an option for each field, over a preset and a cache."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import typer

from ichnode.nets.manifest import PreprocessSpec
from train.errors import TrainingError
from train.learn.recipe import PRESETS, Recipe, check

FROM_SCRATCH: Mapping[str, Any] = MappingProxyType({"frozen_epochs": 0, "rate_spread": 1.0})
_PAIRS = ("first_sizes", "windows_hu", "momentum")  # written LOW:HIGH, parted by commas


def recipe_options(leave_out: Sequence[str] = ()) -> dict[str, Any]:
    """Return the annotation of an option for each field; its default is that of the preset."""
    hints = get_type_hints(Recipe, include_extras=True)
    return {
        one.name: _option(one.name, hints[one.name])
        for one in dataclasses.fields(Recipe)
        if one.name not in leave_out
    }


def _option(name: str, hint: Any) -> Any:
    kind, says = get_args(hint)
    if get_origin(kind) is Literal:
        says, kind = f"{says} One of {', '.join(get_args(kind))}.", str
    values = {preset: _written(getattr(recipe, name)) for preset, recipe in PRESETS.items()}
    default = values["recipe"]
    others = "".join(f"; {p} {v}" for p, v in values.items() if v != default)
    shown = (
        f"{says} [{default or 'none'}{others}]" if name != "size_px" else f"{says} [the cache's]"
    )
    option = typer.Option(help=shown, show_default=False)
    return Annotated[(str if name in _PAIRS else kind) | None, option]


def compose(
    preset: str, asked: Mapping[str, Any], spec: PreprocessSpec, *, with_weights: bool
) -> Recipe:
    """Return the recipe of a preset with what was asked for, fitted to a cache.

    Random weights are not frozen, unless that is asked for.

    Raises
    ------
    TrainingError
        When there is no such preset, or what was asked for cannot be read.
    """
    if preset not in PRESETS:
        raise TrainingError(f"The preset is one of {', '.join(PRESETS)}.")
    values: dict[str, Any] = {n: _pairs(n, v) if n in _PAIRS else v for n, v in asked.items()}
    if not with_weights:
        values = dict(FROM_SCRATCH) | values
    fitted = dataclasses.replace(PRESETS[preset], size_px=spec.size_px).like(spec)
    recipe = dataclasses.replace(fitted, **values)
    check(recipe)
    return recipe


def _pairs(name: str, text: str) -> tuple[Any, ...]:
    """Read ``64:0.3,128:0.3`` or ``0:80,-20:180`` or ``0.95:0.85``."""
    first = int if name == "first_sizes" else float
    try:
        pairs = [part.split(":") for part in text.split(",") if part.strip()]
        read = tuple((first(a), float(b)) for a, b in pairs)
    except ValueError:
        option = name.replace("_", "-")
        raise TrainingError(f"--{option} is written A:B, several parted by commas.") from None
    if name != "momentum":
        return read
    if len(read) != 1:
        raise TrainingError("--momentum is written HIGHEST:LOWEST.")
    return read[0]


def _written(value: Any) -> str:
    if isinstance(value, tuple):
        pairs = value if value and isinstance(value[0], tuple) else (value,) if value else ()
        return ",".join(":".join(f"{number:g}" for number in pair) for pair in pairs)
    return f"{value:g}" if isinstance(value, float) else str(value)
