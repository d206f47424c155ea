"""From a cache and a bundle to a page, by the commands."""

from __future__ import annotations

import csv
import dataclasses
import json
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from PIL import Image
from typer.testing import CliRunner

from ichnode.nets.bundle import Bundle
from ichnode.nets.calibration import NOT_ASKED
from ichnode.nets.manifest_file import read_manifest
from tests.learning_kit import SPEC as SQUARES
from tests.learning_kit import TINY, Squares, write_split_key
from tests.models import write_model, write_pair
from tests.training_data import SPEC, ToySource
from train.carryover.reading import look_at
from train.cli import judging
from train.data.cache import Cache, build_cache
from train.data.splits import open_key, split_slices
from train.data.views import all_slices
from train.errors import TrainingError
from train.judge.chosen import Chosen, read_chosen
from train.judge.gallery import worst_cases
from train.learn.loop import Conditions, fit
from train.learn.recipe import Recipe
from train.learn.run_folder import open_run, split_key
from train.measuring import (
    Measuring,
    measure_bundle,
    part_of,
    predict_bundle,
    predict_run,
    recalibrated,
)
from train.predictions import read_predictions

torch.set_num_threads(1)
app = typer.Typer()
judging.register(app)


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Cache:
    """Forty toy series of 32 px, every second with blood."""
    return build_cache(tmp_path_factory.mktemp("toy") / "cache", ToySource(40), SPEC, workers=1)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    """A bundle that nobody trained, for the same images."""
    folder = tmp_path_factory.mktemp("bundles") / "untrained"
    write_model(folder, logit=0.0, spec=SPEC)
    return folder


def run(*arguments: object):
    """Run a command as a user does; what it raises on purpose is raised here."""
    return CliRunner().invoke(
        app, [str(one) for one in arguments], catch_exceptions=False, standalone_mode=False
    )


def test_evaluate_writes_a_page_and_all_that_lies_beside_it(cache, bundle, tmp_path: Path):
    """Page with gallery, figures, card, table and predictions; the same figures everywhere."""
    out = tmp_path / "out"
    told = run(
        "evaluate", "--bundle", bundle, "--cache", cache.folder, "--out", out, "--split", "all",
        "--draws", 100, "--gallery", 2, "--device", "cpu",
    )  # fmt: skip
    assert "Measured on 40 series" in told.stdout
    found = json.loads((out / "metrics.json").read_text())
    assert found["data"]["series"] == 40
    assert found["data"]["series_with_haemorrhage"] == 20
    assert found["model_uid"] == read_manifest(bundle).model_uid
    page = (out / "evaluation.html").read_text()
    assert page.count("data:image/png;base64") == 8
    assert "attention, not a segmentation" in page
    assert "untrained 1" in (out / "MODEL_CARD.md").read_text()
    rows = list(csv.DictReader((out / "series.csv").open()))
    urgent = sum(row["band"] == "urgent" for row in rows)
    assert urgent == found["triage"]["urgent"]["called"]["hits"]
    assert {row["any"] for row in rows} == {"0", "1"}
    kept = read_predictions(out / "predictions.jsonl")
    assert [one.series for one in kept.series] == [row["series"] for row in rows]
    assert not (bundle / "metrics.json").exists()


def test_no_image_is_kept_where_none_may_be(cache, bundle, tmp_path: Path):
    """--gallery 0 leaves them out; --card puts card and figures beside the bundle."""
    out = tmp_path / "out"
    run(
        "evaluate", "--bundle", bundle, "--cache", cache.folder, "--out", out, "--split", "all",
        "--draws", 100, "--gallery", 0, "--card",
    )  # fmt: skip
    assert "data:image/png" not in (out / "evaluation.html").read_text()
    assert (bundle / "metrics.json").read_text() == (out / "metrics.json").read_text()
    assert Bundle.load(bundle).manifest.name == "untrained"
    for name in ("metrics.json", "MODEL_CARD.md"):
        (bundle / name).unlink()


def test_a_split_is_told_by_its_key(cache, bundle, tmp_path: Path):
    """The holdout of a key is what is measured; without one the command says what to give."""
    key = write_split_key(tmp_path)
    holdout = split_slices(all_slices(cache, 1), open_key(key))["holdout"]
    out = tmp_path / "out"
    common = ("evaluate", "--bundle", bundle, "--cache", cache.folder, "--out", out)
    patients = set(holdout.table["patient"])
    assert 0 < len(patients) < 40
    run(*common, "--key", key, "--draws", 100)
    rows = list(csv.DictReader((out / "series.csv").open()))
    assert {row["patient"] for row in rows} == patients
    with pytest.raises(TrainingError, match="give --run or --key"):
        run(*common)
    with pytest.raises(TrainingError, match="no key in"):
        run(*common, "--key", tmp_path / "other")
    with pytest.raises(TrainingError, match="A split is one of"):
        run(*common, "--key", key, "--split", "test")
    with pytest.raises(TrainingError, match="no patient in the split"):
        part_of(cache, 1, "holdout", b"k" * 32, (1.0, 0.0, 0.0, 0.0))


def test_a_bundle_is_calibrated_anew_for_a_site(cache, bundle, tmp_path: Path):
    """The same networks, another calibration: another model, whose thresholds say what they are."""
    out = tmp_path / "local"
    told = run(
        "calibrate", "--bundle", bundle, "--cache", cache.folder, "--out", out, "--split", "all",
        "--target", 0.8, "--prevalence", 0.1,
    )  # fmt: skip
    assert "At a prevalence of 10.0%" in told.stdout
    before, after = Bundle.load(bundle), Bundle.load(out)
    assert after.manifest.model_uid != before.manifest.model_uid
    assert after.manifest.networks == before.manifest.networks
    assert "prevalence of 10.0%" in after.manifest.calibration.how
    assert "40 series of 40 patients" in after.manifest.thresholds.how
    with pytest.raises(TrainingError, match="state the prevalence instead"):
        run(
            "calibrate", "--bundle", bundle, "--cache", cache.folder, "--out", out,
            "--split", "all", "--unlabelled", cache.folder,
        )  # fmt: skip
    with pytest.raises(TrainingError, match="--bundle together with --out"):
        run("calibrate", "--bundle", bundle, "--cache", cache.folder)


def test_worst_cases_are_the_worst_and_show_the_right_slice(cache, bundle):
    """Lowest bleeds and highest others, in order; the slice with blood, and the pixels of it."""
    whole = Bundle.load(bundle)
    slices = all_slices(cache, 1)
    found = predict_bundle(whole, slices, torch.device("cpu"))
    manifest = whole.manifest
    cases = worst_cases(
        found, manifest.calibration, manifest.thresholds, slices,
        network=whole.networks["joint"], spec=manifest.preprocess, count=3,
    )  # fmt: skip
    assert [case.kind for case in cases] == ["missed"] * 3 + ["false alarm"] * 3
    assert [c.probability for c in cases[:3]] == sorted(c.probability for c in cases[:3])
    assert [-c.probability for c in cases[3:]] == sorted(-c.probability for c in cases[3:])
    lowest = found.series_logits[found.series_truth[:, 0] == 1, 0].min()
    assert cases[0].probability == pytest.approx(1 / (1 + np.exp(-lowest)))
    assert all(c.place == "slice 3 of 6" and c.truth == "intraparenchymal" for c in cases[:3])
    assert all(case.truth == "none" for case in cases[3:])
    row = cache.slices.index[
        (cache.slices["series"] == cases[0].series) & (cache.slices["slab"] == 2)
    ][0]
    shown = np.asarray(Image.open(BytesIO(cases[0].png)).convert("L").resize((32, 32)))
    wanted = np.clip(cache.hu[row] / 80, 0, 1) * 255
    assert np.corrcoef(shown.ravel(), wanted.ravel())[0, 1] > 0.98
    assert all(case.attention not in (None, case.png) for case in cases)
    plain = worst_cases(found, manifest.calibration, manifest.thresholds, slices, count=1)
    assert [case.attention for case in plain] == [None, None]


@pytest.mark.real
def test_a_real_scan_is_looked_at_beside(real_data: Path, tmp_path: Path):
    """What the node would say of it, from its DICOM files; an empty folder is no series."""
    write_model(tmp_path / "bundle", logit=-2.0)
    whole = Bundle.load(tmp_path / "bundle")
    seen = look_at(whole, real_data / "head_ct_ge")
    assert (seen.name, seen.slices, seen.finding) == ("head_ct_ge", 28, "negative")
    assert seen.median_slice_any <= seen.highest_slice_any < 0.5
    with pytest.raises(TrainingError, match="no series that can be read"):
        look_at(whole, tmp_path)


def test_a_pair_is_measured_like_any_other_bundle(tmp_path: Path):
    """Its hemorrhage network shows its attention; what was never asked has no odd figures."""
    folder = tmp_path / "pair"
    manifest = write_pair(folder, hemorrhage_logit=1.0, subtype_logit=-1.0)
    cache = build_cache(tmp_path / "cache", ToySource(6), manifest.preprocess, workers=1)
    how = Measuring(split="all", draws=100, gallery=1)
    found, page = measure_bundle(Bundle.load(folder), all_slices(cache, 1), tmp_path / "out", how)
    assert found["triage"]["bands"]["with haemorrhage"]["urgent"] in (0, 3)
    assert "hemorrhage resnet18_local" in page.read_text()


def test_recalibrating_with_what_it_had_changes_nothing(bundle, tmp_path: Path):
    """The same calibration gives the same model."""
    whole = Bundle.load(bundle)
    same = Chosen(whole.manifest.calibration, whole.manifest.thresholds, {})
    assert recalibrated(whole, same, tmp_path).model_uid == whole.manifest.model_uid


@pytest.fixture(scope="module")
def squares(tmp_path_factory) -> Cache:
    """Forty series of noise, every second with a square of blood."""
    folder = tmp_path_factory.mktemp("squares") / "cache"
    return build_cache(folder, Squares(40), SQUARES, workers=1)


def learnt(squares: Cache, folder: Path, recipe: Recipe) -> Path:
    """A short run on the train split of a key beside it."""
    key = split_key(write_split_key(folder.parent), (0.4, 0.1, 0.4, 0.1))
    parts = split_slices(all_slices(squares, 1), key.key(), key.shares)
    fit(
        recipe, parts["train"], parts["selection"], folder,
        conditions=Conditions(device="cpu", threads=1, quiet=True), split=key,
    )  # fmt: skip
    return folder


def test_a_run_is_calibrated_on_its_own_calibration_split(squares, tmp_path: Path):
    """The choice lies beside the run and can be read; nothing of what it learnt from is in it."""
    folder = learnt(squares, tmp_path / "run", TINY)
    told = run("calibrate", "--run", folder, "--cache", squares.folder, "--device", "cpu")
    assert "Written" in told.stdout
    chosen = read_chosen(folder)
    shares = (0.4, 0.1, 0.4, 0.1)
    key = open_key(tmp_path / "split.key")
    part = split_slices(all_slices(squares, 1), key, shares)["calibration"]
    patients = part.table["patient"].nunique()
    assert f"{patients} series of {patients} patients (squares)" in chosen.calibration.how
    assert "more patients with haemorrhage would do" in chosen.thresholds.how
    with pytest.raises(TrainingError, match="rule is"):
        run("calibrate", "--run", folder, "--cache", squares.folder, "--rule", "mean")
    with pytest.raises(TrainingError, match="another key"):
        other = tmp_path / "other.key"
        open_key(other)
        run("calibrate", "--run", folder, "--cache", squares.folder, "--key", other)


def test_a_pair_of_runs_is_calibrated_together(squares, tmp_path: Path):
    """The second network is asked only where the first sees blood, as in serving."""
    once = dataclasses.replace(TINY, epochs=1)
    first = learnt(squares, tmp_path / "any", dataclasses.replace(once, labels="any"))
    second = learnt(squares, tmp_path / "kinds", dataclasses.replace(once, labels="subtypes"))
    part = part_of(squares, 1, "all", None)
    found = predict_run(open_run(first), part, subtypes=open_run(second))
    silent = found.slice_logits[:, 0] <= 0
    assert np.array_equal((found.slice_logits[:, 1:] == NOT_ASKED).all(axis=1), silent)
    run(
        "calibrate", "--run", first, "--subtypes", second, "--cache", squares.folder,
        "--split", "all", "--rule", "max",
    )  # fmt: skip
    assert read_chosen(first).calibration.series_rule == "max"
