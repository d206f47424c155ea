"""A bundle measured on folders of slices and series: its figures, and what they are of."""

from __future__ import annotations

import csv
import json
import math
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import roc_auc_score

from ichnode.domain.intervals import wilson
from ichnode.imaging.header import read_header
from ichnode.imaging.volume import read_series
from ichnode.infer.device import eager
from ichnode.infer.predictor import Predictor
from ichnode.nets.bundle import Bundle
from ichnode.nets.manifest import PreprocessSpec
from ichnode.nets.manifest_file import read_manifest
from tests.conftest import ROOT
from tests.measuring_kit import run
from tests.scan_folders import (
    fingerprint,
    picture,
)
from train.carryover.folders import Sample
from train.carryover.measured import Item
from train.carryover.pictures import Picturing
from train.carryover.reading import Reader, read_stack, slice_box
from train.carryover.sheet import Worst, draw_worst

torch.set_num_threads(1)


def test_a_folder_of_slices_is_measured_as_its_items_say(
    png_slices: Path, shipped_copy: Path, tmp_path
):
    """One JSON object on stdout, whose figures follow from its items; nothing else is written."""
    before = fingerprint(png_slices)
    told = subprocess.run(
        [sys.executable, "-m", "train", "measure", "--slices", png_slices, "--bundle", shipped_copy,
         "--json", "--out", tmp_path / "out", "--device", "cpu"],
        cwd=ROOT, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    found = json.loads(told.stdout)
    truth = [item["truth"] for item in found["items"]]
    scores = [item["score"] for item in found["items"]]
    assert (found["n"], found["positives"], found["negatives"]) == (20, 10, 10)
    assert found["auroc"] == pytest.approx(roc_auc_score(truth, scores), abs=1e-5)
    low, high = found["auroc_interval_95"]
    assert 0 <= low <= found["auroc"] <= high <= 1
    for name, wanted in (("sensitivity", 1), ("specificity", 0)):
        part = [item for item in found["items"] if item["truth"] == wanted]
        right = sum(item["positive"] == bool(wanted) for item in part)
        assert found[name] == pytest.approx(right / 10, abs=1e-5)
        assert found[f"{name}_counts"] == {"hits": right, "of": 10}
        assert found[f"{name}_interval_95"] == pytest.approx(wilson(right, 10), abs=1e-5)
    urgent = read_manifest(shipped_copy).thresholds.urgent
    assert found["operating_point"]["threshold"] == urgent[0]
    for item in found["items"]:
        assert item["positive"] == any(
            p >= cut for p, cut in zip(item["scores"].values(), urgent, strict=True)
        )
        assert item["name"].startswith(f"{item['label']}/")
    assert "the clip at 0 and 80 HU" in found["how"]["png"]["undone"]
    assert "AUROC" in told.stderr
    assert json.loads((tmp_path / "out" / "measured.json").read_text()) == found
    sheet = Image.open(tmp_path / "out" / "worst.png")
    assert sheet.format == "PNG"
    assert min(sheet.size) > 300
    assert fingerprint(png_slices) == before


def test_slices_that_hold_brain_are_quoted_apart(png_slices: Path, untrained: Path, tmp_path):
    """A body without a skull and an empty picture hold none; the same figures, on fewer."""
    folder = tmp_path / "more"
    shutil.copytree(png_slices, folder)
    y, x = np.ogrid[:96, :96]
    body = np.where(np.hypot(y - 48, x - 48) < 36, 40, -1000).astype(np.int16)
    picture(folder / "normal" / "neck.png", body)
    picture(folder / "normal" / "empty.png", np.full((96, 96), -1000, np.int16))
    found = run("--slices", folder, "--bundle", untrained, "--out", tmp_path / "out")
    brain = {item["name"] for item in found["items"] if item["brain_bearing"]}
    assert not brain & {"normal/neck.png", "normal/empty.png"}
    assert found["brain_bearing"]["n"] == len(brain) >= 15
    assert found["n"] == 22


def test_one_kind_alone_has_no_auroc(png_slices: Path, untrained: Path, tmp_path):
    """Null and why, not a number; the other rate is there."""
    folder = tmp_path / "negatives"
    shutil.copytree(png_slices / "normal", folder / "Normal")
    found = run("--slices", folder, "--bundle", untrained, "--out", tmp_path / "out")
    assert (found["auroc"], found["auroc_interval_95"]) == (None, None)
    assert found["auroc_why"] == "no positives"
    assert (found["sensitivity"], found["sensitivity_interval_95"]) == (None, None)
    assert found["specificity_counts"]["of"] == 10


def test_series_are_measured_by_label_folder_table_or_without_truth(
    dicom_heads: Path, shipped_copy: Path, tmp_path
):
    """The same series in three layouts say the same; without a truth there is no figure."""
    labelled = run("--series", dicom_heads, "--bundle", shipped_copy, "--out", tmp_path / "a")
    assert (labelled["n"], labelled["positives"]) == (2, 1)
    flat = tmp_path / "flat"
    shutil.copytree(dicom_heads / "subdural" / "a", flat / "a")
    shutil.copytree(dicom_heads / "normal" / "b", flat / "b")
    unknown = run("--series", flat, "--bundle", shipped_copy, "--out", tmp_path / "b")
    assert (unknown["n"], unknown["auroc"], unknown["sensitivity"]) == (2, None, None)
    table = tmp_path / "truth.csv"
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([("series", "any"), ("a", 1), ("b", 0), ("c", 1)])
    told = run(
        "--series", flat, "--truth", table, "--bundle", shipped_copy, "--out", tmp_path / "c"
    )
    assert told["auroc"] == labelled["auroc"] in (0.0, 0.5, 1.0)
    scores = [sorted(item["score"] for item in one["items"]) for one in (labelled, unknown, told)]
    assert scores[0] == scores[1] == scores[2]
    assert [item["truth"] for item in told["items"]] == [1, 0]
    one = run("--series", flat / "a", "--bundle", shipped_copy, "--out", tmp_path / "d")
    assert [(item["name"], item["slices"]) for item in one["items"]] == [("a", 16)]
    assert one["items"][0]["score"] == told["items"][0]["score"]


def test_a_series_is_read_as_the_node_reads_it(dicom_heads: Path, shipped_copy: Path):
    """Bit by bit the probabilities that serving states on a CPU."""
    files = sorted((dicom_heads / "subdural" / "a").iterdir())
    whole = Bundle.load(shipped_copy)
    volume = read_series([(read_header(file), file) for file in files], complete=True)
    served = Predictor(whole, [lambda n: eager(n, torch.device("cpu"), torch.float32)]).predict(
        volume
    )
    said = Reader(whole).read(read_stack(files, Picturing()))
    assert np.array_equal(said.series, served.series)
    assert said.finding == served.finding.value


def test_a_slice_near_the_vertex_is_not_blown_up():
    """A small section is fed at the scale of a head around its own middle, a large one as it is."""
    y, x = np.ogrid[:224, :224]
    spec = PreprocessSpec(size_px=64, windows_hu=((0.0, 80.0),), context_slices=1)
    for radius, side_px in ((55, 170), (95, 190)):
        section = np.where(np.hypot(y - 110, x - 112) < radius, 40, -1000).astype(np.int16)
        box = slice_box(section, (1.0, 1.0), spec)
        assert box.height == box.width == pytest.approx(side_px * (1 + 2 * spec.crop_margin), abs=3)
        assert abs(box.top + box.height / 2 - 110) <= 2
        assert abs(box.left + box.width / 2 - 112) <= 2


def test_the_worst_are_the_worst_of_either_kind(untrained: Path, tmp_path):
    """Five bleeds with the lowest scores and five others with the highest, in order."""
    said = Reader(Bundle.load(untrained)).read_slice(np.zeros((64, 64), np.int16), (4.0, 4.0))
    worst = Worst()
    for number in np.random.default_rng(3).permutation(40):
        score = np.full(6, number / 40)
        sample = Sample(f"{number}.png", "", bool(number % 2), ())
        item = Item(sample.name, sample, replace(said, series=score), 1, 1)
        worst.offer(item, np.full((64, 64), 40, np.int16))
    (_, bleeds), (_, others) = worst.rows()
    assert [item.name for item, _ in bleeds] == [f"{n}.png" for n in (1, 3, 5, 7, 9)]
    assert [item.name for item, _ in others] == [f"{n}.png" for n in (38, 36, 34, 32, 30)]
    for number in range(100, 112):
        sample = Sample(f"{number}.png", "", None, ())
        item = Item(sample.name, sample, replace(said, series=np.full(6, 0.999)), 1, 1)
        worst.offer(item, np.full((64, 64), 40, np.int16))
    (_, bleeds), (title, others) = worst.rows()
    assert title == "highest without haemorrhage"
    assert [item.name for item, _ in others] == [f"{n}.png" for n in (38, 36, 34, 32, 30)]
    draw_worst(tmp_path / "worst.png", worst, "costs $5 and $6")
    assert Image.open(tmp_path / "worst.png").format == "PNG"


def test_dicom_slices_are_read_as_a_node_reads_them(
    dicom_heads: Path, shipped_copy: Path, tmp_path
):
    """In Hounsfield units, and turned: a slice stored upside down says the same."""
    from pydicom import dcmread

    folder = tmp_path / "single"
    (folder / "normal").mkdir(parents=True)
    file = sorted((dicom_heads / "normal" / "b").iterdir())[8]
    shutil.copy(file, folder / "normal" / "a.dcm")
    dataset = dcmread(file)
    row, column = dataset.ImageOrientationPatient[:3], dataset.ImageOrientationPatient[3:]
    dataset.ImageOrientationPatient = [-float(v) for v in (*row, *column)]
    dataset.PixelData = np.ascontiguousarray(dataset.pixel_array[::-1, ::-1]).tobytes()
    dataset.save_as(folder / "normal" / "b.dcm")
    found = run("--slices", folder, "--bundle", shipped_copy, "--out", tmp_path / "out")
    one, other = found["items"]
    assert one["score"] == other["score"]
    assert "png" not in found["how"]


@pytest.mark.real
def test_a_real_negative_scan_is_said_something_of(real_data: Path, untrained: Path, tmp_path):
    """The whole series, given as the folder itself; its truth is not known to the command."""
    found = run(
        "--series", real_data / "head_ct_ge", "--bundle", untrained, "--out", tmp_path / "o"
    )
    (item,) = found["items"]
    assert (item["name"], item["slices"], item["finding"]) == ("head_ct_ge", 28, "negative")
    assert found["auroc"] is None
    assert found["left_out"] == []
    assert math.isfinite(item["score"])
