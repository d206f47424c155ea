"""A bundle measured on folders of slices and series, by the command."""

from __future__ import annotations

import csv
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from PIL import Image
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from ichnode.domain.intervals import wilson
from ichnode.imaging.header import read_header
from ichnode.imaging.volume import read_series
from ichnode.infer.device import eager
from ichnode.infer.predictor import Predictor
from ichnode.nets.bundle import Bundle
from ichnode.nets.manifest import PreprocessSpec
from ichnode.nets.manifest_file import read_manifest
from ichnode.nets.registry import MEASUREMENTS, Registry, shipped_bundle
from tests.conftest import ROOT
from tests.models import write_model
from tests.scan_folders import (
    dicom_series,
    fingerprint,
    head,
    picture,
    picture_series,
    slice_folder,
)
from train.carryover import ledger
from train.carryover.folders import Sample, find_series, find_slices, natural
from train.carryover.measured import Item
from train.carryover.pictures import Picturing, read_png
from train.carryover.reading import Reader, read_stack, slice_box
from train.carryover.sheet import Worst, draw_worst
from train.cli import carryover
from train.errors import TrainingError, Unusable

torch.set_num_threads(1)
NOBODY = 65534  # the user of Linux who owns nothing
app = typer.Typer()
carryover.register(app)


@pytest.fixture(scope="module")
def slices(tmp_path_factory) -> Path:
    """Ten slices with blood and ten without, of simulated heads, as PNG."""
    return slice_folder(tmp_path_factory.mktemp("slices") / "eleven")


@pytest.fixture(scope="module")
def series(tmp_path_factory) -> Path:
    """One series with blood and one without, as DICOM below their labels."""
    folder = tmp_path_factory.mktemp("series") / "two"
    dicom_series(folder / "subdural" / "a", head(21, bleeds=("subdural",), slices=16))
    dicom_series(folder / "normal" / "b", head(31, slices=16))
    return folder


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A copy of the shipped model, so that its ledger is ours."""
    return Path(shutil.copytree(shipped_bundle(), tmp_path / "bundle"))


@pytest.fixture
def untrained(tmp_path: Path) -> Path:
    """A small model that nobody trained, for what does not depend on what it says."""
    write_model(tmp_path / "untrained", logit=-2.0)
    return tmp_path / "untrained"


def run(*arguments: object) -> dict:
    """Run the command as a user does, and return its JSON."""
    told = CliRunner().invoke(
        app, ["--json", *map(str, arguments)], catch_exceptions=False, standalone_mode=False
    )
    if told.exception is not None:
        raise told.exception
    return json.loads(told.stdout)


def test_a_folder_of_slices_is_measured_as_its_items_say(slices: Path, bundle: Path, tmp_path):
    """One JSON object on stdout, whose figures follow from its items; nothing else is written."""
    before = fingerprint(slices)
    told = subprocess.run(
        [sys.executable, "-m", "train", "measure", "--slices", slices, "--bundle", bundle,
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
    urgent = read_manifest(bundle).thresholds.urgent
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
    assert fingerprint(slices) == before


def test_slices_that_hold_brain_are_quoted_apart(slices: Path, untrained: Path, tmp_path):
    """A body without a skull and an empty picture hold none; the same figures, on fewer."""
    folder = tmp_path / "more"
    shutil.copytree(slices, folder)
    y, x = np.ogrid[:96, :96]
    body = np.where(np.hypot(y - 48, x - 48) < 36, 40, -1000).astype(np.int16)
    picture(folder / "normal" / "neck.png", body)
    picture(folder / "normal" / "empty.png", np.full((96, 96), -1000, np.int16))
    found = run("--slices", folder, "--bundle", untrained, "--out", tmp_path / "out")
    brain = {item["name"] for item in found["items"] if item["brain_bearing"]}
    assert not brain & {"normal/neck.png", "normal/empty.png"}
    assert found["brain_bearing"]["n"] == len(brain) >= 15
    assert found["n"] == 22


def test_every_use_is_in_the_bundles_ledger(slices: Path, untrained: Path, tmp_path):
    """What, when, which model, rounded figures; the same data are known again under any name."""
    same = tmp_path / "renamed"
    shutil.copytree(slices, same)
    (same / "normal" / "ID_0_3.png").rename(same / "normal" / "z.png")
    first = run("--slices", slices, "--bundle", untrained, "--out", tmp_path / "one")
    again = run("--slices", same, "--bundle", untrained, "--out", tmp_path / "two")
    assert first["ledger"] == {"file": MEASUREMENTS, "same_data_before": 0}
    assert again["ledger"]["same_data_before"] == 1
    one, two = ledger.entries(untrained)
    assert (one["data"], one["n"], one["kind"]) == ("eleven", 20, "slices")
    assert (two["data"], two["digest"]) == ("renamed", one["digest"])
    assert one["model_uid"] == read_manifest(untrained).model_uid
    assert one["figures"]["auroc"] == pytest.approx(first["auroc"], abs=0.0026)
    assert Bundle.load(untrained).manifest.name == "untrained"
    registry = Registry(tmp_path / "models")
    installed = registry.find(registry.install(untrained)).folder
    assert ledger.entries(installed) == [one, two]
    path = untrained / MEASUREMENTS
    path.write_text(path.read_text().replace('"n": 20', '"n": 21', 1))
    with pytest.raises(TrainingError, match="Line 1 of measurements"):
        run("--slices", slices, "--bundle", untrained, "--out", tmp_path / "three")


def test_a_bundle_that_cannot_be_written_is_measured_all_the_same(
    slices: Path, untrained: Path, tmp_path
):
    """Its ledger cannot be kept, which is said: here a folder is in the way, as root may write."""
    (untrained / MEASUREMENTS).mkdir()
    told = CliRunner().invoke(
        app, ["--slices", str(slices), "--bundle", str(untrained), "--out", str(tmp_path / "o")],
        catch_exceptions=False,
    )  # fmt: skip
    assert told.exit_code == 0
    assert "ledger of the bundle cannot be written (IsADirectoryError)" in told.stdout
    assert "AUROC" in told.stdout


def test_nothing_is_written_where_it_is_read(slices: Path, untrained: Path, tmp_path, monkeypatch):
    """--out and the ledger are refused there; without --out a new folder comes into being."""
    before = fingerprint(slices)
    with pytest.raises(TrainingError, match="--out lies in the folder that is read"):
        run("--slices", slices, "--bundle", untrained, "--out", slices / "out")
    with pytest.raises(TrainingError, match="bundle lies in the folder that is read"):
        run("--slices", tmp_path, "--bundle", untrained)
    with pytest.raises(TrainingError, match="--out lies in the bundle"):
        run("--slices", slices, "--bundle", untrained, "--out", untrained / "out")
    held = sorted(untrained.iterdir())
    monkeypatch.chdir(untrained)
    assert run("--slices", slices, "--bundle", untrained, "--device", "cpu")["n"] == 20
    assert {one.name for one in set(untrained.iterdir()) - set(held)} <= {MEASUREMENTS}
    monkeypatch.chdir(slices)
    assert run("--slices", slices, "--bundle", untrained)["n"] == 20
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    run("--slices", slices, "--bundle", untrained)
    run("--slices", slices, "--bundle", untrained, "--no-picture")
    written = sorted(str(file.relative_to(Path.cwd())) for file in Path.cwd().rglob("*.*"))
    assert written == [
        "measured-eleven-2/measured.json", "measured-eleven/measured.json",
        "measured-eleven/worst.png",
    ]  # fmt: skip
    assert fingerprint(slices) == before


def test_a_folder_without_permission_to_write_is_read(slices: Path, untrained: Path, tmp_path):
    """Folders 0555 and files 0444, as a mounted archive is."""
    folder = tmp_path / "archive"
    shutil.copytree(slices, folder)
    for path in (*folder.rglob("*"), folder):
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        found = run("--slices", folder, "--bundle", untrained, "--out", tmp_path / "out")
    finally:
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o755)
    assert found["n"] == 20


def test_what_cannot_be_read_is_left_out_and_named(slices: Path, untrained: Path, tmp_path):
    """Cut short, no picture, in colour, too small, another format: each with its reason."""
    folder = tmp_path / "mixed"
    shutil.copytree(slices, folder)
    whole = (folder / "normal" / "ID_0_3.png").read_bytes()
    (folder / "normal" / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "normal" / "text.png").write_text("no picture")
    (folder / "normal" / "empty.dcm").write_bytes(b"")
    colour = np.zeros((64, 64, 3), np.uint8)
    colour[:, :, 0] = 200
    Image.fromarray(colour).save(folder / "normal" / "red.png")
    Image.fromarray(colour[:8, :8, 1]).save(folder / "normal" / "small.png")
    Image.fromarray(colour).save(folder / "normal" / "photo.jpg")
    (folder / "LICENSE").write_text("terms")
    (folder / "other").mkdir()
    found = run("--slices", folder, "--bundle", untrained, "--out", tmp_path / "out")
    assert found["n"] == 20
    reasons = {one["name"]: one["reason"] for one in found["left_out"]}
    assert set(reasons) == {
        "other", "normal/cut.png", "normal/text.png", "normal/empty.dcm", "normal/red.png",
        "normal/small.png", "normal/photo.jpg",
    }  # fmt: skip
    assert reasons["normal/red.png"] == "not grey (the colours differ)"
    assert "8 x 8" in reasons["normal/small.png"]
    assert "undecodable" in reasons["normal/cut.png"]
    assert found["data"]["other_files"] == 1


def test_one_kind_alone_has_no_auroc(slices: Path, untrained: Path, tmp_path):
    """Null and why, not a number; the other rate is there."""
    folder = tmp_path / "negatives"
    shutil.copytree(slices / "normal", folder / "Normal")
    found = run("--slices", folder, "--bundle", untrained, "--out", tmp_path / "out")
    assert (found["auroc"], found["auroc_interval_95"]) == (None, None)
    assert found["auroc_why"] == "no positives"
    assert (found["sensitivity"], found["sensitivity_interval_95"]) == (None, None)
    assert found["specificity_counts"]["of"] == 10


def test_odd_folders_end_with_one_sentence(slices: Path, untrained: Path, tmp_path):
    """By the real command: exit code 1, no traceback."""
    (tmp_path / "e" / "normal").mkdir(parents=True)
    shutil.copytree(slices / "subdural", tmp_path / "p" / "subdural")
    (tmp_path / "b" / "normal").mkdir(parents=True)
    (tmp_path / "b" / "normal" / "a.png").write_text("nothing")
    told = subprocess.run(
        [sys.executable, "-m", "train", "measure", "--slices", tmp_path / "p", "--json"],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (told.returncode, told.stdout) == (1, "")
    assert told.stderr.startswith("train: ")
    assert "no subfolder normal" in told.stderr
    assert len(told.stderr.splitlines()) == 1
    with pytest.raises(TrainingError, match="Nothing in"):
        run("--slices", tmp_path / "b", "--bundle", untrained)
    for folder, words in (
        ("e", "No PNG or DICOM file"), ("p", "no subfolder normal"), ("none", "is no folder"),
        ("p/subdural", "has no subfolders"),
    ):  # fmt: skip
        with pytest.raises(TrainingError, match=words):
            find_slices(tmp_path / folder)
    with pytest.raises(TrainingError, match="Give --slices or --series"):
        run("--bundle", untrained)
    with pytest.raises(TrainingError, match="lower and a higher"):
        run("--slices", slices, "--bundle", untrained, "--hu-range", 80, 0)
    with pytest.raises(TrainingError, match="0, 90, 180 or 270"):
        run("--slices", slices, "--bundle", untrained, "--rotate", 45)


def test_series_are_measured_by_label_folder_table_or_without_truth(
    series: Path, bundle: Path, tmp_path
):
    """The same series in three layouts say the same; without a truth there is no figure."""
    labelled = run("--series", series, "--bundle", bundle, "--out", tmp_path / "a")
    assert (labelled["n"], labelled["positives"]) == (2, 1)
    flat = tmp_path / "flat"
    shutil.copytree(series / "subdural" / "a", flat / "a")
    shutil.copytree(series / "normal" / "b", flat / "b")
    unknown = run("--series", flat, "--bundle", bundle, "--out", tmp_path / "b")
    assert (unknown["n"], unknown["auroc"], unknown["sensitivity"]) == (2, None, None)
    table = tmp_path / "truth.csv"
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([("series", "any"), ("a", 1), ("b", 0), ("c", 1)])
    told = run("--series", flat, "--truth", table, "--bundle", bundle, "--out", tmp_path / "c")
    assert told["auroc"] == labelled["auroc"] in (0.0, 0.5, 1.0)
    scores = [sorted(item["score"] for item in one["items"]) for one in (labelled, unknown, told)]
    assert scores[0] == scores[1] == scores[2]
    assert [item["truth"] for item in told["items"]] == [1, 0]
    one = run("--series", flat / "a", "--bundle", bundle, "--out", tmp_path / "d")
    assert [(item["name"], item["slices"]) for item in one["items"]] == [("a", 16)]
    assert one["items"][0]["score"] == told["items"][0]["score"]


def test_a_series_is_read_as_the_node_reads_it(series: Path, bundle: Path):
    """Bit by bit the probabilities that serving states on a CPU."""
    files = sorted((series / "subdural" / "a").iterdir())
    whole = Bundle.load(bundle)
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


def test_a_series_of_pictures_is_read_in_the_order_of_its_numbers(untrained: Path, tmp_path):
    """2 before 10; nearly the scan's own Hounsfield units; a damaged one leaves a gap."""
    whole = head(21, bleeds=("subdural",), slices=16)
    folder = picture_series(tmp_path / "pictures" / "a", whole)
    stack = read_stack([*folder.iterdir()], Picturing(step_mm=6.0))
    soft = (whole.hu > 2) & (whole.hu < 78)
    assert np.abs(stack.hu[soft] - whole.hu[soft]).max() <= 1
    assert stack.positions_mm[:3] == (0.0, 6.0, 12.0)
    (folder / "3.png").write_text("damaged")
    found = run(
        "--series", tmp_path / "pictures", "--bundle", untrained, "--out", tmp_path / "out",
        "--spacing-mm", 6,
    )  # fmt: skip
    assert [one["name"] for one in found["left_out"]] == ["a/3.png"]
    assert found["items"][0]["slices"] == 15
    assert found["how"]["png"]["step_mm"] == 6


def test_dicom_slices_are_read_as_a_node_reads_them(series: Path, bundle: Path, tmp_path):
    """In Hounsfield units, and turned: a slice stored upside down says the same."""
    from pydicom import dcmread

    folder = tmp_path / "single"
    (folder / "normal").mkdir(parents=True)
    file = sorted((series / "normal" / "b").iterdir())[8]
    shutil.copy(file, folder / "normal" / "a.dcm")
    dataset = dcmread(file)
    row, column = dataset.ImageOrientationPatient[:3], dataset.ImageOrientationPatient[3:]
    dataset.ImageOrientationPatient = [-float(v) for v in (*row, *column)]
    dataset.PixelData = np.ascontiguousarray(dataset.pixel_array[::-1, ::-1]).tobytes()
    dataset.save_as(folder / "normal" / "b.dcm")
    found = run("--slices", folder, "--bundle", bundle, "--out", tmp_path / "out")
    one, other = found["items"]
    assert one["score"] == other["score"]
    assert "png" not in found["how"]


def test_pictures_are_turned_as_told(tmp_path: Path):
    """Counter-clockwise, so that what was turned clockwise stands upright again."""
    hu = head(20, slices=4).hu[2]
    upright = read_png(picture(tmp_path / "a.png", hu), Picturing()).hu
    turned = picture(tmp_path / "b.png", np.rot90(hu, -1))
    assert np.array_equal(read_png(turned, Picturing(rotate_degrees=90)).hu, upright)


def test_sixteen_bits_colour_of_equal_greys_and_palettes_are_grey(tmp_path: Path):
    """The same picture in five forms; half transparent and moving ones are none."""
    path = picture(tmp_path / "grey.png", head(20, slices=4).hu[2])
    grey = Image.open(path)
    wanted = read_png(path, Picturing()).hu
    for name, form in (("rgb", grey.convert("RGB")), ("p", grey.convert("P"))):
        form.save(tmp_path / f"{name}.png")
        assert np.array_equal(read_png(tmp_path / f"{name}.png", Picturing()).hu, wanted)
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    deep.save(tmp_path / "deep.png")
    assert np.array_equal(read_png(tmp_path / "deep.png", Picturing()).hu, wanted)
    seen_through = grey.convert("LA")
    seen_through.putalpha(128)
    seen_through.save(tmp_path / "glass.png")
    grey.save(tmp_path / "film.png", save_all=True, append_images=[grey.rotate(90)])
    for name, words in (("glass", "transparent"), ("film", "more than one")):
        with pytest.raises(Unusable, match=words):
            read_png(tmp_path / f"{name}.png", Picturing())


def test_folders_of_series_that_are_not_understood_say_so(series: Path, tmp_path):
    """No negative label, no series at all, a table of other series."""
    shutil.copytree(series / "subdural", tmp_path / "a" / "subdural")
    with pytest.raises(TrainingError, match="no subfolder normal"):
        find_series(tmp_path / "a")
    (tmp_path / "b").mkdir()
    with pytest.raises(TrainingError, match="No folder with PNG or DICOM"):
        find_series(tmp_path / "b")
    table = tmp_path / "t.csv"
    table.write_text("series,label\nz,normal\n")
    with pytest.raises(TrainingError, match="No series of"):
        find_series(series, table)
    table.write_text("name,what\n")
    with pytest.raises(TrainingError, match="needs the columns"):
        find_series(series, table)
    assert sorted(map(Path, ("10.png", "2.png", "a")), key=natural)[0].name == "2.png"


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ("label\na,no haemorrhage\nb,subdural", "has no label normal"),
        ("label\na,negative\nb,positive", "has no label normal"),
        ("any\na,perhaps", "says 'perhaps' of a"),
        ("any\na,1\na,0", "names the series a more than once"),
        ("any\ns,1", "s may mean 2 series"),
        ("any\na,1\nq/a,0", "names the series q/a twice: a and q/a"),
    ],
)
def test_a_table_that_is_not_understood_is_refused(tmp_path: Path, rows: str, words: str):
    """Unknown words, contradictions, and a row that may mean either of two series."""
    for place in ("p/s", "q/s", "q/a"):
        picture(tmp_path / "in" / place / "1.png", np.zeros((32, 32), np.int16))
    (tmp_path / "t.csv").write_text(f"series,{rows}\n")
    with pytest.raises(TrainingError, match=words):
        find_series(tmp_path / "in", tmp_path / "t.csv")


def test_any_may_be_a_decimal_or_empty(tmp_path: Path):
    """As tables that went through a spreadsheet or pandas have it."""
    for place in "abc":
        picture(tmp_path / "in" / place / "1.png", np.zeros((32, 32), np.int16))
    (tmp_path / "t.csv").write_text("series,any\na,1.0\nb,0.0\nc,\n,\n,\n")
    held = find_series(tmp_path / "in", tmp_path / "t.csv")
    assert [sample.truth for sample in held.samples] == [True, False, None]


def test_a_file_name_that_is_not_utf_8_is_shown_all_the_same(untrained: Path, tmp_path: Path):
    """A name in Latin-1, as old archives have it: in the figures, the table and the picture."""
    grey = picture(tmp_path / "grey.png", head(20, slices=4).hu[2])
    folder = tmp_path / os.fsdecode(b"M\xfcller")
    (folder / "normal").mkdir(parents=True)
    shutil.copy(grey, folder / "normal" / os.fsdecode(b"M\xfcller.png"))
    (folder / "normal" / os.fsdecode(b"\xfc.png")).write_text("nothing")
    found = run("--slices", folder, "--bundle", untrained, "--out", tmp_path / "out")
    assert [item["name"] for item in found["items"]] == ["normal/M\ufffdller.png"]
    assert [one["name"] for one in found["left_out"]] == ["normal/\ufffd.png"]
    assert found["data"]["name"] == "M\ufffdller"
    assert json.loads((tmp_path / "out" / "measured.json").read_text()) == found


@pytest.mark.parametrize("line", [b"[]\n", b"\xff\xfe\n", b'{"hash": "\xff"}\n'])
def test_a_ledger_of_something_else_is_called_altered(tmp_path: Path, line: bytes):
    """JSON of another kind, and bytes that are no text."""
    (tmp_path / MEASUREMENTS).write_bytes(line)
    with pytest.raises(TrainingError, match="Line 1 of measurements"):
        ledger.entries(tmp_path)


def test_a_folder_without_permission_to_read_is_named():
    """One sentence; root, who may read everything, is somebody else for that moment."""
    us = os.geteuid()
    with tempfile.TemporaryDirectory() as made:  # where others may go, unlike in tmp_path
        folder = Path(made)
        picture(folder / "a" / "1.png", np.zeros((32, 32), np.int16))
        folder.chmod(0o755)
        (folder / "a").chmod(0)
        try:
            if us == 0:
                os.seteuid(NOBODY)
            with pytest.raises(TrainingError, match="cannot be read"):
                find_series(folder)
        finally:
            os.seteuid(us)
            (folder / "a").chmod(0o755)


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
