"""What folders and tables of real scans may look like, and what is refused or left out by name."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread

from tests.conftest import ROOT
from tests.measuring_kit import run
from tests.scan_folders import (
    head,
    picture,
)
from train.carryover.folders import find_series, find_slices, natural
from train.carryover.pictures import Picturing
from train.carryover.reading import LeftOut, read_stack
from train.errors import TrainingError

NOBODY = 65534  # the user of Linux who owns nothing


def test_what_cannot_be_read_is_left_out_and_named(png_slices: Path, untrained: Path, tmp_path):
    """Cut short, no picture, in colour, too small, another format: each with its reason."""
    folder = tmp_path / "mixed"
    shutil.copytree(png_slices, folder)
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


def test_odd_folders_end_with_one_sentence(png_slices: Path, untrained: Path, tmp_path):
    """By the real command: exit code 1, no traceback."""
    (tmp_path / "e" / "normal").mkdir(parents=True)
    shutil.copytree(png_slices / "subdural", tmp_path / "p" / "subdural")
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
        run("--slices", png_slices, "--bundle", untrained, "--hu-range", 80, 0)
    with pytest.raises(TrainingError, match="0, 90, 180 or 270"):
        run("--slices", png_slices, "--bundle", untrained, "--rotate", 45)


def test_slices_without_a_place_are_left_out_and_named(dicom_heads: Path, tmp_path: Path):
    """At the end of a head they leave no gap: only the count says that they were not looked at."""
    files = sorted((dicom_heads / "normal" / "b").iterdir())
    ds = dcmread(files[-1])
    del ds.ImagePositionPatient
    ds.save_as(tmp_path / "last.dcm")
    stack = read_stack([*files[:-1], tmp_path / "last.dcm"], Picturing())
    assert (len(stack.hu), stack.left_out) == (15, (LeftOut("1 slices", "have no place"),))


def test_folders_of_series_that_are_not_understood_say_so(dicom_heads: Path, tmp_path):
    """No negative label, no series at all, a table of other series."""
    shutil.copytree(dicom_heads / "subdural", tmp_path / "a" / "subdural")
    with pytest.raises(TrainingError, match="no subfolder normal"):
        find_series(tmp_path / "a")
    (tmp_path / "b").mkdir()
    with pytest.raises(TrainingError, match="No folder with PNG or DICOM"):
        find_series(tmp_path / "b")
    table = tmp_path / "t.csv"
    table.write_text("series,label\nz,normal\n")
    with pytest.raises(TrainingError, match="No series of"):
        find_series(dicom_heads, table)
    table.write_text("name,what\n")
    with pytest.raises(TrainingError, match="needs the columns"):
        find_series(dicom_heads, table)
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
