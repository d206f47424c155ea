"""``fit``, ``find-lr``, ``augment`` and ``paper``: teach a network, and look before one does."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from ichnode.nets.architectures import SliceNetwork
    from ichnode.nets.pretrained import InitialWeights
    from train.data.views import Slices
    from train.learn.recipe import Recipe

CacheOption = Annotated[Path, typer.Option("--cache", help="Folder of the cache.")]
PresetOption = Annotated[
    str,
    typer.Option(
        help="recipe: ours. paper: as the paper. local: local evidence. mask: draws too. "
        "randomised: likewise, on randomised heads. weak: labels of whole series."
    ),
]
PretrainedOption = Annotated[
    str,
    typer.Option(
        "--pretrained",
        "--weights",
        help="What the body starts from: none, auto (torchvision's ImageNet weights, where they "
        "can be had; their terms are non-commercial), or a file of such weights; or the folder of "
        "a run or a bundle, to go on from its network on other data.",
    ),
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
KeyOption = Annotated[
    Path | None,
    typer.Option(
        "--key",
        help="File with the key that parts the patients, made where missing; keep it. By default "
        "split.key beside the cache.",
    ),
]
_NOT_ASKED = ("start", "crop", "crop_margin", "slab_below_mm", "slab_target_mm", "gap_ratio")


def with_recipe(
    command: Callable[..., None], leave_out: tuple[str, ...] = ()
) -> Callable[..., None]:
    """Give a command an option for each field of the recipe; it gets those given as ``asked``."""
    from train.learn.options import recipe_options

    return with_options(command, recipe_options(leave_out=(*_NOT_ASKED, *leave_out)))


def with_options(command: Callable[..., None], options: Mapping[str, Any]) -> Callable[..., None]:
    """Give a command more options, by name and annotation; it gets those given as ``asked``."""
    own = inspect.signature(command, eval_str=True)

    @functools.wraps(command)
    def run(**given: Any) -> None:
        asked = {name: given.pop(name) for name in options}
        command(**given, asked={name: v for name, v in asked.items() if v is not None})

    parameters = [p for p in own.parameters.values() if p.name != "asked"]
    parameters += [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind)
        for name, kind in options.items()
    ]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    return run


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(
        epilog="Example: python -m train fit --cache cache --out run --architecture resnet18"
    )(with_recipe(fit))
    app.command("find-lr", epilog="Example: python -m train find-lr --cache cache --out rates.png")(
        with_recipe(find_lr)
    )
    app.command(epilog="Example: python -m train augment --cache cache --out sheet.png")(augment)
    app.command(epilog="Example: python -m train paper simulated:0:300 --out paper")(paper)


def fit(
    *,
    cache: CacheOption,
    out: Annotated[Path, typer.Option(help="Folder of the run; an unfinished one goes on.")],
    preset: PresetOption = "recipe",
    pretrained: PretrainedOption = "none",
    device: DeviceOption = "auto",
    threads: Annotated[int, typer.Option(help="That read the cache ahead.")] = 2,
    save_every: Annotated[float, typer.Option(help="Seconds between checkpoints.")] = 120.0,
    look_every: Annotated[
        float, typer.Option(help="Seconds between looks at the watched patients; 0: each epoch.")
    ] = 0.0,
    hold: Annotated[
        bool, typer.Option(help="Let a GPU with room for it hold the whole cache.")
    ] = True,
    key: KeyOption = None,
    asked: dict[str, Any],
) -> None:
    """Teach a network on a cache, watched on patients that it does not learn from.

    Patients are parted by a keyed hash into train, selection, calibration and holdout; it learns
    from the first and watches the second. Ctrl-C leaves a checkpoint from which the same command
    goes on. Several processes: torchrun --nproc-per-node 4 -m train fit ...
    """
    from train.data.splits import split_slices
    from train.learn.loop import Conditions
    from train.learn.loop import fit as teach
    from train.learn.run_folder import split_key

    recipe, slices = _recipe_and_slices(cache, preset, pretrained, asked)
    reference = split_key(key or cache.parent / "split.key")
    parts = split_slices(to_learn_from(slices), reference.key(), reference.shares)
    recipe, start, origin = _started(recipe, pretrained)
    conditions = Conditions(
        device=device, threads=threads, save_every_s=save_every, look_every_s=look_every, hold=hold
    )
    teach(
        recipe,
        parts["train"],
        parts["selection"],
        out,
        start=start,
        conditions=conditions,
        split=reference,
        origin=origin,
    )
    _tell(out)


def find_lr(
    *,
    cache: CacheOption,
    out: Annotated[Path, typer.Option(help="Picture of the loss over the rate.")] = Path("lr.png"),
    preset: PresetOption = "recipe",
    pretrained: PretrainedOption = "none",
    device: DeviceOption = "auto",
    key: KeyOption = None,
    asked: dict[str, Any],
) -> None:
    """Suggest a learning rate: a mock run of 100 steps from 1e-7 to 10, and its picture."""
    from train.data.splits import open_key, split_slices
    from train.learn.finder import draw_sweep, find_rate, suggest

    recipe, slices = _recipe_and_slices(cache, preset, pretrained, asked)
    split = split_slices(to_learn_from(slices), open_key(key or cache.parent / "split.key"))
    recipe, start, _ = _started(recipe, pretrained)
    seen = find_rate(recipe, split["train"], start=start, device=device)
    found = suggest(seen)
    draw_sweep(out, seen, found)
    print(
        f"valley {found.valley:.2g} (take this one), steep {found.steep:.2g}, a tenth of the "
        f"minimum's {found.minimum:.2g}; picture in {out}."
    )


def augment(
    cache: CacheOption,
    out: Annotated[Path, typer.Option(help="PNG file.")] = Path("augment.png"),
    preset: Annotated[str, typer.Option(help="none, paper, recipe or simulated.")] = "recipe",
    rows: Annotated[int, typer.Option(help="How many slices.")] = 5,
    seed: Annotated[int, typer.Option(help="Of slices and disturbances.")] = 7,
) -> None:
    """Draw a contact sheet of what augmentation does to slices of a cache."""
    from train.data.cache import open_cache
    from train.data.views import all_slices
    from train.errors import TrainingError
    from train.learn.augment import PRESETS
    from train.learn.contact_sheet import draw_contact_sheet

    if preset not in PRESETS:
        raise TrainingError(f"The augmentation is one of {', '.join(PRESETS)}.")
    draw_contact_sheet(out, all_slices(open_cache(cache), 1), preset, rows=rows, seed=seed)  # type: ignore[arg-type]
    print(f"The contact sheet is in {out}.")


def paper(
    data: Annotated[str, typer.Argument(help="Folder of a cache, or SOURCE:PATH of a dataset.")],
    out: Annotated[Path, typer.Option(help="Folder for everything.")] = Path("paper"),
    quick: Annotated[
        bool, typer.Option("--quick", help="Tiny images and few steps: only whether it works.")
    ] = False,
    labels: Annotated[Path | None, typer.Option(help="CSV of labels, for a dicom-folder.")] = None,
    pretrained: PretrainedOption = "auto",
    device: DeviceOption = "auto",
) -> None:
    """Run everything in the paper and print its table with ours beside it.

    What is done already is not done again.
    """
    from train.paper.running import run_paper
    from train.paper.settings import Settings

    settings = Settings(quick=quick, device=device, pretrained=pretrained, labels=labels)
    print(run_paper(data, out, settings))


def _recipe_and_slices(
    cache: Path, preset: str, pretrained: str, asked: dict[str, Any]
) -> tuple[Recipe, Slices]:
    from train.data.cache import open_cache
    from train.data.views import all_slices
    from train.learn.options import compose

    opened = open_cache(cache)
    recipe = compose(preset, asked, opened.spec, with_weights=pretrained != "none")
    return recipe, all_slices(opened, recipe.context_slices)


def to_learn_from(slices: Slices) -> Slices:
    """Leave out simulated heads that are there to measure on, and say so."""
    from train.data.records import is_held_out

    measured = slices.table["dataset"].map(is_held_out).to_numpy(bool)
    if measured.any():
        print(f"{measured.sum()} slices of heads to measure on are left out.")
    return slices.where(~measured)


def _started(
    recipe: Recipe, pretrained: str
) -> tuple[Recipe, SliceNetwork | None, InitialWeights | None]:
    if pretrained not in ("none", "auto") and Path(pretrained).is_dir():
        from train.context.starting import start_from

        return start_from(recipe, Path(pretrained))
    from train.learn.starting import starting_weights

    return starting_weights(recipe, pretrained)


def _tell(run: Path) -> None:
    from train.learn.run_folder import open_run

    result = open_run(run).result
    figures = result["watched"][result["weights"]]
    shown = ", ".join(f"{name} {value:.4f}" for name, value in figures.items() if value is not None)
    print(f"{result['steps']} steps in {result['seconds']:.0f} s; watched patients: {shown}.")
    print(f"The run is in {run}. Not for clinical use without local validation.")
