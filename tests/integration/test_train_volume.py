"""From voxel truth to volumes in millilitres: cache, network, factor, bundle, measurement, node."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from ichnode.domain.findings import Finding
from ichnode.imaging.volume import CtVolume
from ichnode.infer.device import eager
from ichnode.infer.predictor import Predictor
from ichnode.nets.bundle import Bundle
from ichnode.nets.manifest_file import read_manifest
from ichnode.nets.preprocess import Box
from ichnode.nets.volume import onto_slice, scaled_volumes_ml
from tests.learning_kit import DRAWN_SQUARES, SPEC, slices_of, square_series
from train.candidate import predict_with_bundle
from train.data.records import SourceSeries
from train.data.views import Slices
from train.exporting import export_run
from train.judge.chosen import Chosen, choose_all, read_chosen, write_chosen
from train.learn.loop import Conditions, fit
from train.learn.run_folder import open_run
from train.measuring import Measuring, measure_bundle, predict_run, recalibrated
from train.predictions import Predictions

torch.set_num_threads(1)
SIDE = 64
SQUARES = (4, 7, 11, 16, 22)
DRAWING = dataclasses.replace(DRAWN_SQUARES, epochs=8)


def series(number: int) -> SourceSeries:
    """Every second has a square of 4 to 22 px, of 3.75 mm each, in three slices of 5 mm."""
    wide = SQUARES[number // 2 % len(SQUARES)]
    return square_series(number, side=SIDE, square=wide)


def slices(numbers: range) -> Slices:
    """The slices of some series."""
    return slices_of([series(n) for n in numbers], dataclasses.replace(SPEC, size_px=SIDE))


LEARNT, CHOSEN_ON, UNSEEN = range(40), range(40, 90), range(90, 120)


def said(run: Path, numbers: range) -> Predictions:
    """What the network of a run says of some series."""
    return predict_run(open_run(run), slices(numbers))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that draws squares, and the volumes that were chosen for it."""
    folder = tmp_path_factory.mktemp("road") / "run"
    quiet = Conditions("cpu", quiet=True)
    fit(DRAWING, slices(LEARNT), slices(range(40, 48)), folder, conditions=quiet)
    write_chosen(folder, choose_all(said(folder, CHOSEN_ON)))
    return folder


@pytest.fixture(scope="module")
def bundle(run: Path) -> Bundle:
    """The bundle of that run."""
    export_run(open_run(run), slices(LEARNT), run.parent / "bundle", name="squares", version="1")
    return Bundle.load(run.parent / "bundle")


@pytest.fixture(scope="module")
def predictor(bundle: Bundle) -> Predictor:
    """The node's reader of it, at full precision."""
    return Predictor(bundle, [lambda n: eager(n, torch.device("cpu"), torch.float32)])


def volume_of(one: SourceSeries) -> CtVolume:
    """The series as reading its files would give it."""
    return CtVolume(
        hu=one.hu,
        spacing_mm=one.spacing_mm,
        positions_mm=one.positions_mm,
        slice_uids=tuple(f"2.25.{index + 1}" for index in range(len(one.hu))),
    )


def test_the_cache_knows_the_true_volume() -> None:
    """Of the voxels as they came, "any" the sum of the kinds; 0 without blood."""
    table = slices(range(4)).table
    square_ml = (4 * 240 / SIDE) ** 2 * 15 / 1000
    first, second = table[table["series"] == "series0"], table[table["series"] == "series1"]
    assert set(first["true_ml_any"]) == {0.0}
    assert second["true_ml_any"].iloc[0] == pytest.approx(square_ml, rel=1e-3)
    assert second["true_ml_epidural"].iloc[0] == pytest.approx(square_ml, rel=1e-3)
    assert set(second["true_ml_subdural"]) == {0.0}
    assert set(table["image_mm2"]) == {240.0**2}
    assert set(table["extent_mm"]) == {5.0}


def test_a_cache_of_before_volumes_has_none(run: Path) -> None:
    """It can be read and measured on; no volume is chosen from it."""
    old = slices(range(40, 60))
    unknown = [name for name in old.table if name.startswith("true_ml_")]
    table = old.table.assign(image_mm2=np.nan, extent_mm=np.nan, **dict.fromkeys(unknown, np.nan))
    found = predict_run(open_run(run), dataclasses.replace(old, table=table))
    assert np.isnan(found.raw_ml).all()
    assert choose_all(found).volume is None


def test_the_factor_is_chosen_and_kept(run: Path) -> None:
    """On other series than those learnt from; read again it is the same."""
    volume = read_chosen(run).volume
    assert volume is not None
    assert volume == choose_all(said(run, CHOSEN_ON)).volume
    assert 0.5 < volume.scale[0] < 1.5
    assert volume.median_relative_error < 0.3
    assert volume.shown[0] == "any"


def test_the_bundle_measures_volumes_of_what_it_never_saw(bundle: Bundle, tmp_path: Path) -> None:
    """The page, the card and the table say how far off they are."""
    found, page = measure_bundle(
        bundle, slices(UNSEEN), tmp_path, Measuring(split="holdout", draws=100, gallery=0)
    )
    off = found["volume"]["overall"]
    assert off["series"] == 15
    assert off["median_relative_error"] < 0.3
    assert "Limits of agreement" in page.read_text()
    card = (tmp_path / "MODEL_CARD.md").read_text()
    assert "### Volume" in card
    assert "### By how much blood there is" in card
    rows = (tmp_path / "series.csv").read_text().splitlines()
    assert rows[0].endswith("said_ml,true_ml")
    assert len({row.rsplit(",", 1)[1] for row in rows[1:]}) == 1 + len(SQUARES)


def test_the_node_says_the_volume_that_was_measured(bundle: Bundle, predictor: Predictor) -> None:
    """The same areas, extents and factors, and no kind above all blood."""
    measured = predict_with_bundle(bundle, slices(range(95, 96))).raw_ml[0]
    served = predictor.predict(volume_of(series(95)))
    assert bundle.manifest.volume is not None
    assert served.volume_ml is not None
    said = scaled_volumes_ml(measured, bundle.manifest.volume.scale)
    assert np.allclose(served.volume_ml, said, rtol=1e-4)
    true_ml = slices(range(95, 96)).table["true_ml_any"].iloc[0]
    assert served.volume_ml[0] == pytest.approx(true_ml, rel=0.5)


def test_the_node_draws_the_blood_on_the_key_slice(predictor: Predictor) -> None:
    """Of a positive series, in native pixels, where the blood is; of another nothing."""
    one = series(97)
    served = predictor.predict(volume_of(one))
    assert served.finding is Finding.POSITIVE
    assert one.kinds is not None
    true = one.kinds[served.key_slices[0]] > 0
    assert served.key_mask is not None
    assert served.key_mask.shape == true.shape
    overlap = 2 * (served.key_mask & true).sum() / (served.key_mask.sum() + true.sum())
    assert overlap > 0.7
    assert predictor.predict(volume_of(series(96))).key_mask is None


@pytest.mark.parametrize("measured", [True, False], ids=["masks", "evidence"])
def test_the_node_suspects_blood_where_it_is(bundle: Bundle, measured: bool) -> None:
    """By the masks, or by the evidence where nothing is known of them: there and not elsewhere."""
    manifest = bundle.manifest if measured else dataclasses.replace(bundle.manifest, volume=None)
    known = dataclasses.replace(bundle, manifest=manifest)
    predictor = Predictor(known, [lambda n: eager(n, torch.device("cpu"), torch.float32)])
    one = series(97)
    served = predictor.predict(volume_of(one))
    assert one.kinds is not None
    assert served.key_heat is not None
    true = one.kinds[served.key_slices[0]] > 0
    box = Box(*served.key_heat.box)
    chances = onto_slice(torch.from_numpy(served.key_heat.chances / 255), box, true.shape).numpy()
    assert chances[true].mean() > 0.7
    assert chances[~true].mean() < 0.3  # the evidence on 64 px has places of 16 px
    assert predictor.predict(volume_of(series(96))).key_heat is None


def test_a_calibration_elsewhere_keeps_the_volume_and_can_switch_it_off(
    bundle: Bundle, tmp_path: Path
) -> None:
    """Local scans have no voxel truth; --no-volume hides what the bundle would show."""
    before = bundle.manifest
    assert before.volume is not None
    same = Chosen(before.calibration, before.thresholds, {})
    assert recalibrated(bundle, same, tmp_path / "kept").volume == before.volume
    off = recalibrated(bundle, same, tmp_path / "off", volume_shown=False)
    assert off.volume == dataclasses.replace(before.volume, shown=())
    assert read_manifest(tmp_path / "off").model_uid != before.model_uid
