"""``context`` and ``weak``: read series in order, and learn from labels of whole series."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from train.cli.fitting import (
    CacheOption,
    DeviceOption,
    KeyOption,
    PretrainedOption,
    to_learn_from,
    with_options,
    with_recipe,
)

if TYPE_CHECKING:
    from ichnode.nets.architectures import SliceNetwork
    from ichnode.nets.pretrained import InitialWeights
    from train.learn.recipe import Recipe

_NOT_OF_SERIES = ("cleaning", "place_weight", "steps")  # they speak of labelled slices
_OutOption = Annotated[Path, typer.Option(help="Folder of the run; an unfinished one goes on.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(epilog="Example: python -m train context --run run --cache cache --out run2")(
        _with_context_recipe(context)
    )
    app.command(
        epilog="Example: python -m train weak --cache cache --out run --pooling log_sum_exp"
    )(with_recipe(weak, leave_out=_NOT_OF_SERIES))


def _with_context_recipe(command: Any) -> Any:
    """Give a command an option for each field of the recipe of the sequence stage."""
    import dataclasses
    from typing import get_type_hints

    from train.context.recipe import ContextRecipe

    hints = get_type_hints(ContextRecipe, include_extras=True)
    options = {}
    for one in dataclasses.fields(ContextRecipe):
        kind, says = get_args(hints[one.name])
        option = typer.Option(help=f"{says} [{one.default:g}]", show_default=False)
        options[one.name] = Annotated[kind | None, option]
    return with_options(command, options)


def context(
    *,
    run: Annotated[Path, typer.Option(help="Finished run of a network that answers all labels.")],
    cache: CacheOption,
    out: _OutOption,
    rule: Annotated[
        str | None,
        typer.Option(
            help="From slices to series for the slice network: adjacent_mean, max or log_sum_exp; "
            "by default as the run was trained."
        ),
    ] = None,
    features: Annotated[
        Path | None,
        typer.Option(help="Where features are kept; by default the folder features of the cache."),
    ] = None,
    key: KeyOption = None,
    device: DeviceOption = "auto",
    asked: dict[str, Any],
) -> None:
    """Teach a network to read the slices of a series in the light of each other.

    It learns from what the run's network, which stays as it is, sees in each slice of the training
    patients. The selection patients decide for each label how far it is believed; where it does not
    help, not at all. The new run holds both networks: calibrate, export and evaluate it.
    """
    from train.context.recipe import ContextRecipe
    from train.context.stage import add_context
    from train.data.cache import open_cache
    from train.data.splits import split_slices
    from train.data.views import all_slices
    from train.errors import TrainingError
    from train.learn.precision import choose_device
    from train.learn.run_folder import open_run

    if rule not in (None, "adjacent_mean", "max", "log_sum_exp"):
        raise TrainingError("The rule is adjacent_mean, max or log_sum_exp.")
    opened = open_run(run)
    if opened.split is None:
        raise TrainingError(f"{run} does not say how patients were parted.")
    slices = to_learn_from(all_slices(open_cache(cache), opened.spec.context_slices))
    parts = split_slices(slices, opened.split.key(key), opened.split.shares)
    made = add_context(
        opened,
        parts["train"],
        parts["selection"],
        out,
        ContextRecipe(**asked),
        rule=rule or "",
        kept=features,
        device=choose_device(device),
    )
    _tell_context(out, made.result)


def _tell_context(out: Path, result: Any) -> None:
    from ichnode.domain.findings import LABELS

    print(f"AUROC on the selection patients, epoch {result['epoch']}:")
    print(f"  {'':17} {'':7} {'alone':>7} {'context':>7} {'share':>6} {'blended':>7}")
    blends = {"slices": result["blend"]["slice_blend"], "series": result["blend"]["series_blend"]}
    for level, shares in blends.items():
        for index, label in enumerate(LABELS):
            areas = [
                result["selection"][name][level][label]
                for name in ("slice_network", "context_network", "blended")
            ]
            first, second, both = ("-" if a is None else f"{a:.4f}" for a in areas)
            share = f"{shares[index]:g}"
            print(f"  {label:17} {level:7} {first:>7} {second:>7} {share:>6} {both:>7}")
    print(f"The run is in {out}. Not for clinical use without local validation.")


def weak(
    *,
    cache: CacheOption,
    out: _OutOption,
    pooling: Annotated[
        str,
        typer.Option(help="From slices to the series: max, log_sum_exp (or lse) or attention."),
    ] = "log_sum_exp",
    series: Annotated[int, typer.Option(help="Series a step.")] = 4,
    apart: Annotated[
        float | None,
        typer.Option(
            help="Share of the run, its first part, in which slices are taught apart, each the "
            "label of its series: so chance weights find what to look for. By default 0.6, and 0 "
            "with --from."
        ),
    ] = None,
    learns: Annotated[
        str,
        typer.Option(
            help="What learns: whole, late (the late layers at a tenth of the rate, and the head) "
            "or head. By default whole, and late with --from."
        ),
    ] = "",
    start: Annotated[
        Path | None,
        typer.Option("--from", help="Run or bundle whose network to start from."),
    ] = None,
    preset: Annotated[str, typer.Option(help="As of fit; weak has its own rates.")] = "weak",
    pretrained: PretrainedOption = "none",
    device: DeviceOption = "auto",
    key: KeyOption = None,
    asked: dict[str, Any],
) -> None:
    """Teach a network on labels of whole series alone: what a hospital has.

    No label of a slice is looked at, and yet what comes of it is a network that reads slices: its
    run is calibrated, exported and evaluated like any other. --batch is how many slices are in
    memory at once, --epochs are times over the series. Some 400 series or more are needed from
    chance; fewer with --from.
    """
    from train.context.weak import fit_weak
    from train.context.weak_recipe import WeakRecipe
    from train.data.cache import open_cache
    from train.data.splits import split_slices
    from train.data.views import all_slices
    from train.learn.options import compose
    from train.learn.run_folder import split_key

    opened = open_cache(cache)
    recipe = compose(preset, asked, opened.spec, with_weights=pretrained != "none")
    recipe, network, origin = _weak_start(recipe, start, pretrained)
    how = WeakRecipe(
        pooling="log_sum_exp" if pooling == "lse" else pooling,  # type: ignore[arg-type]
        series=series,
        apart=(0.0 if start else 0.6) if apart is None else apart,
        learns=learns or ("late" if start else "whole"),  # type: ignore[arg-type]
    )
    reference = split_key(key or cache.parent / "split.key")
    slices = to_learn_from(all_slices(opened, recipe.context_slices))
    parts = split_slices(slices, reference.key(), reference.shares)
    fit_weak(
        recipe,
        how,
        parts["train"],
        parts["selection"],
        out,
        start=network,
        device=device,
        split=reference,
        origin=origin,
    )
    _tell_weak(out)


def _weak_start(
    recipe: Recipe, start: Path | None, pretrained: str
) -> tuple[Recipe, SliceNetwork | None, InitialWeights | None]:
    from train.context.starting import start_from
    from train.errors import TrainingError
    from train.learn.starting import starting_weights

    if start is None:
        return starting_weights(recipe, pretrained)
    if pretrained != "none":
        raise TrainingError("Give --from or --pretrained, not both.")
    return start_from(recipe, start)


def _tell_weak(run: Path) -> None:
    from train.learn.run_folder import open_run

    result = open_run(run).result
    told = {"series_auroc": "series AUROC", "slice_auroc": "slice AUROC (slices were not labelled)"}
    shown = [
        f"{says} {result['watched'][name]:.4f}"
        for name, says in told.items()
        if result["watched"][name] is not None
    ]
    print(f"{result['steps']} steps in {result['seconds']:.0f} s, epoch {result['epoch']} kept.")
    print(f"Watched patients: {', '.join(shown) or 'nothing is known of them'}.")
    print(f"The run is in {run}. Not for clinical use without local validation.")
