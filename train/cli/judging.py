"""``python -m train calibrate`` and ``evaluate``: choose on one split, measure on another."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

if TYPE_CHECKING:
    from train.data.cache import Cache
    from train.data.views import Slices
    from train.judge.chosen import Chosen
    from train.learn.run_folder import SplitKey
    from train.predictions import Predictions

CacheOption = Annotated[Path, typer.Option("--cache", help="Folder of the cache.")]
KeyOption = Annotated[
    Path | None,
    typer.Option(
        "--key",
        help="File with the key that parts the patients; by default that of the run, or split.key "
        "beside the cache.",
    ),
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
SeedOption = Annotated[int, typer.Option(help="For what is drawn by chance.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(epilog="Example: python -m train calibrate --run run --cache cache --target 0.9")(
        calibrate
    )
    app.command(
        epilog="Example: python -m train evaluate --bundle bundle --cache cache --run run --out "
        "evaluation"
    )(evaluate)


def calibrate(
    cache: CacheOption,
    run: Annotated[
        Path | None, typer.Option(help="Folder of the run; calibration.json goes there.")
    ] = None,
    subtypes: Annotated[
        Path | None, typer.Option(help="Run of the second network, where there is a pair.")
    ] = None,
    bundle: Annotated[
        Path | None, typer.Option(help="In place of a run: a finished bundle, for another site.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="With --bundle: folder of the new bundle.")
    ] = None,
    split: Annotated[
        str, typer.Option(help="What to choose on: calibration, or all of the cache.")
    ] = "calibration",
    rule: Annotated[
        str | None,
        typer.Option(
            help="From slices to series: adjacent_mean, max or log_sum_exp; by default as the run "
            "was trained, which is adjacent_mean where slices were labelled."
        ),
    ] = None,
    target: Annotated[
        float, typer.Option(min=0.5, max=0.999, help="Sensitivity that must be shown.")
    ] = 0.9,
    prevalence: Annotated[
        float | None, typer.Option(help="Fraction of the site's series with haemorrhage.")
    ] = None,
    kept_negatives: Annotated[
        float | None, typer.Option(help="Where only this fraction of the negatives is here.")
    ] = None,
    unlabelled: Annotated[
        Path | None,
        typer.Option(
            help="Cache of the site's series, labelled or not, to estimate the prevalence from."
        ),
    ] = None,
    local: Annotated[
        bool | None,
        typer.Option(
            "--local/--not-local",
            help="Whether these are consecutive series of the place where it will run; by default "
            "only those that a node exported are.",
        ),
    ] = None,
    volume: Annotated[
        bool | None,
        typer.Option(
            "--volume/--no-volume",
            help="Whether the volume of blood goes into reports; by default only where its error "
            "on these series is small enough.",
        ),
    ] = None,
    key: KeyOption = None,
    device: DeviceOption = "auto",
    seed: SeedOption = 1,
) -> None:
    """Make probabilities mean what they say, and choose the thresholds.

    Prints what the thresholds promise, and what is missing where they promise nothing. With
    --bundle the same networks get a new calibration: another model, to be validated again. Of a
    network that draws masks the factor from areas to volumes is chosen too, where voxels of the
    truth are known. Not for clinical use without local validation.
    """
    from train.errors import TrainingError
    from train.judge.aims import Aims
    from train.judge.calibrating import Rule, Site
    from train.judge.chosen import choose_all, write_chosen

    if (run is None) == (bundle is None) or (bundle is None) != (out is None):
        raise TrainingError("Give --run, or --bundle together with --out.")
    found, stated = _to_choose_on(run, subtypes, bundle, cache, split, rule, key, device)
    of_site = None
    if unlabelled is not None:
        of_site, _ = _to_choose_on(run, subtypes, bundle, unlabelled, "all", rule, key, device)
    chosen = choose_all(
        found,
        cast("Rule", stated),
        site=Site(prevalence=prevalence, kept_negatives=kept_negatives, unlabelled=of_site),
        aims=Aims(target_sensitivity=target),
        local=local,
        volume_shown=volume,
        seed=seed,
    )
    _print_choice(chosen)
    if run is not None:
        print(f"Written: {write_chosen(run, chosen)}")
    elif bundle is not None and out is not None:
        from train.measuring import load_bundle, recalibrated

        manifest = recalibrated(load_bundle(bundle), chosen, out, volume_shown=volume)
        print(f"Written: {out}, model {manifest.model_uid}")


def _to_choose_on(
    run: Path | None,
    subtypes: Path | None,
    bundle: Path | None,
    cache: Path,
    split: str,
    rule: str | None,
    key: Path | None,
    device: str,
) -> tuple[Predictions, str]:
    """Return what the network says of the split, and by which rule series follow from slices."""
    from train.context.joining import rule_of
    from train.data.cache import open_cache
    from train.learn.precision import choose_device
    from train.learn.run_folder import open_run
    from train.measuring import load_bundle, predict_bundle, predict_run

    on, opened = choose_device(device), open_cache(cache)
    if run is None:
        if bundle is None:
            raise ValueError("neither a run nor a bundle")
        whole = load_bundle(bundle)
        spec = whole.manifest.preprocess
        slices = _part(opened, spec.context_slices, split, key, None)
        return predict_bundle(whole, slices, on), whole.manifest.calibration.series_rule
    first, second = open_run(run), None if subtypes is None else open_run(subtypes)
    slices = _part(opened, first.spec.context_slices, split, key, first.split)
    known = _rule(rule or rule_of(first.folder))
    return predict_run(first, slices, subtypes=second, rule=known, device=on), known


def _rule(rule: str) -> Any:
    from train.errors import TrainingError

    if rule not in ("adjacent_mean", "max", "log_sum_exp"):
        raise TrainingError("The rule is adjacent_mean, max or log_sum_exp.")
    return rule


def _part(
    cache: Cache, context_slices: int, split: str, key: Path | None, parted: SplitKey | None
) -> Slices:
    """Return the slices of a split, by the key of a run, that given, or that beside the cache."""
    from train.data.splits import SHARES, open_key
    from train.errors import TrainingError
    from train.measuring import WHOLE, part_of

    if split == WHOLE:
        return part_of(cache, context_slices, split, None)
    if parted is not None:
        return part_of(cache, context_slices, split, parted.key(key), parted.shares)
    if key is not None and not key.is_file():
        raise TrainingError(f"There is no key in {key}.")
    file = key or cache.folder.parent / "split.key"
    return part_of(cache, context_slices, split, open_key(file) if file.is_file() else None, SHARES)


def _print_choice(chosen: Chosen) -> None:
    print("\n".join(f"  {check}" for check in _lines(chosen.calibration.how)))
    print("\n".join(f"  {check}" for check in _lines(chosen.thresholds.how)))
    if chosen.volume is not None:
        print("\n".join(f"  {check}" for check in _lines(chosen.volume.how)))
        print(f"  Stated in reports: {', '.join(chosen.volume.shown) or 'no volume'}.")
    for row in chosen.report["operating_point"]["at_prevalences"]:
        print(
            f"  At a prevalence of {row['prevalence']:.1%}: {row['alerts_per_1000']:.0f} alerts "
            f"per 1,000 studies, {row['false_alerts_per_1000']:.0f} of them false, "
            f"{row['missed_per_1000']:.1f} bleeds not called."
        )


def _lines(text: str) -> list[str]:
    import re

    return re.split(r"(?<=\.) (?=[A-Z])", text)


def evaluate(
    bundle: Annotated[Path, typer.Option(help="Folder of the bundle.")],
    cache: CacheOption,
    out: Annotated[Path, typer.Option(help="Folder of the page, the figures and the card.")],
    split: Annotated[
        str, typer.Option(help="What to measure on: holdout, another split, or all of the cache.")
    ] = "holdout",
    run: Annotated[
        Path | None, typer.Option(help="The run that the bundle is of; it knows the split's key.")
    ] = None,
    key: KeyOption = None,
    draws: Annotated[int, typer.Option(min=100, help="Of patients, for the intervals.")] = 2000,
    gallery: Annotated[
        int, typer.Option(min=0, help="Worst cases of each kind to show; 0 keeps no image.")
    ] = 9,
    beside: Annotated[
        list[Path] | None,
        typer.Option(help="Folder with one real DICOM series, to be looked at; may be repeated."),
    ] = None,
    card: Annotated[
        bool, typer.Option("--card", help="Put card and figures into the bundle's folder as well.")
    ] = False,
    device: DeviceOption = "auto",
    seed: SeedOption = 1,
) -> None:
    """Measure a bundle on series that it has not learnt from, and write one page about it.

    Writes evaluation.html, metrics.json, MODEL_CARD.md, series.csv, predictions.jsonl and the
    plots. Images of the worst cases go into the page; --gallery 0 leaves them out. The card quotes
    the bundle's ledger of `measure`. Not for clinical use without local validation.
    """
    from train.carryover import ledger
    from train.carryover.reading import look_at
    from train.data.cache import open_cache
    from train.learn.precision import choose_device
    from train.learn.run_folder import open_run
    from train.measuring import Measuring, load_bundle, measure_bundle

    whole = load_bundle(bundle)
    parted = None if run is None else open_run(run).split
    slices = _part(open_cache(cache), whole.manifest.preprocess.context_slices, split, key, parted)
    how = Measuring(
        split=split,
        draws=draws,
        seed=seed,
        gallery=gallery,
        device=choose_device(device),
        beside=tuple(look_at(whole, folder) for folder in beside or ()),
        uses=ledger.entries(bundle),
    )
    evaluation, page = measure_bundle(whole, slices, out, how)
    if card:
        _copy_into(out, bundle)
    _print_evaluation(evaluation)
    print(f"Written: {page}")


def _copy_into(out: Path, bundle: Path) -> None:
    import shutil

    from ichnode.nets.manifest import CARD
    from train.judge.page import METRICS

    for name in (CARD, METRICS):
        shutil.copyfile(out / name, bundle / name)


def _print_evaluation(evaluation: dict[str, Any]) -> None:
    from train.judge.page import number, percent, span_number, span_percent, summary

    data = evaluation["data"]
    if data["kind"] != "scans":
        print(f"These data are {data['kind']}: the figures say nothing about patients.")
    print(summary(evaluation))
    for label, levels in evaluation["labels"].items():
        for level, row in levels.items():
            area, found = row["auroc"], row["sensitivity"]
            told = (
                area["why"]
                if area["value"] is None
                else (f"AUROC {number(area['value'])} ({span_number(area)})")
            )
            if found["value"] is not None:
                told += f", sensitivity {percent(found['value'])} ({span_percent(found)})"
            print(f"  {label:17} {level:7} {row['positives']:6} of {row['n']:6}  {told}")
