"""``python -m train``: simulate heads, fit a network, export a bundle."""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

import torch

from ichnode.logs import configure_logging
from train.export import export
from train.fit import fit, kept_recipe, load_trained
from train.recipe import Recipe
from train.simulated import Splits, make_heads, open_heads, splits


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command of the training."""
    asked = _parser().parse_args(arguments)
    configure_logging(level="info")
    torch.set_num_threads(asked.workers or os.cpu_count() or 1)
    if asked.command == "fit":
        _fit(asked)
    _export(asked)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m train",
        description="Train a network on simulated head CT and write a bundle.",
        epilog="Example: python -m train fit --data heads --out run --heads 300 --minutes 25",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    fitting = commands.add_parser("fit", help="simulate, train, calibrate, measure, write a bundle")
    for field in dataclasses.fields(Recipe):
        kind = type(field.default)
        fitting.add_argument(
            f"--{field.name.replace('_', '-')}", type=kind, default=field.default, metavar="VALUE"
        )
    exporting = commands.add_parser("export", help="calibrate and write the bundle of a run again")
    for command in (fitting, exporting):
        command.add_argument("--data", type=Path, required=True, help="where simulated heads go")
        command.add_argument("--out", type=Path, required=True, help="where the run is kept")
        command.add_argument("--workers", type=int, default=0, help="0 takes all cores")
        command.add_argument(
            "--beside",
            type=Path,
            action="append",
            default=[],
            help="a folder with one real series without blood, to be looked at and reported",
        )
        command.add_argument("--version", default="0", help="version of the bundle")
    return parser


def _fit(asked: argparse.Namespace) -> None:
    names = [field.name for field in dataclasses.fields(Recipe)]
    recipe = Recipe(**{name: getattr(asked, name) for name in names})
    seeds = _make(recipe, asked)
    fit(recipe, open_heads(asked.data, seeds.train), open_heads(asked.data, seeds.tune), asked.out)


def _make(recipe: Recipe, asked: argparse.Namespace) -> Splits:
    seeds = splits(recipe.heads, recipe.tune_heads, recipe.holdout_heads)
    wanted = (*seeds.tune, *seeds.train, *seeds.holdout)
    make_heads(asked.data, wanted, recipe.preprocess(), asked.workers)
    return seeds


def _export(asked: argparse.Namespace) -> None:
    recipe = kept_recipe(asked.out)
    seeds = _make(recipe, asked)
    metrics = export(
        recipe,
        load_trained(recipe, asked.out),
        open_heads(asked.data, seeds.tune),
        open_heads(asked.data, seeds.holdout),
        asked.out / "bundle",
        asked.version,
        asked.beside,
    )
    of_any = metrics["labels"]["any"]
    print(f"Holdout (simulated): any, slices {of_any['slice_auroc']}, findings", end=" ")
    print(metrics["findings"], f"bundle {asked.out / 'bundle'}")


if __name__ == "__main__":
    main()
