"""``python -m train data``: the commands, as a person types them, and what they leave behind."""

from __future__ import annotations

import csv
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from ichnode.domain.findings import LABELS
from tests.imaging_scans import head, positions, write_series
from tests.training_data import SPEC, ToySource
from train.cli.data import register
from train.data.cache import build_cache, open_cache
from train.data.jpeg import export_jpegs
from train.data.table import metadata_table
from train.data.views import all_slices
from train.data.window import WINDOWS, brain_fraction
from train.errors import TrainingError

app = typer.Typer()
register(app)


def run(*words: object) -> str:
    """What a command prints; errors that people can mend come through."""
    result = CliRunner().invoke(app, ["data", *map(str, words)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return re.sub(r"\s+", " ", result.output)


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """A series of ten slices, one of them damaged, and a text file."""
    places = positions(10)
    pairs = write_series(tmp_path / "scans" / "series", head(places), places)
    pairs[9][1].write_bytes(b"damaged")
    (tmp_path / "scans" / "notes.txt").write_text("nothing")
    return tmp_path / "scans"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Four toy series, one of which is in quarantine."""
    build_cache(tmp_path / "cache", ToySource(5, unusable=frozenset("3")), SPEC, workers=1)
    return tmp_path / "cache"


def test_every_command_has_help_and_an_example() -> None:
    """Each says what it does and shows a line that can be typed."""
    for name in ("add", "list", "table", "clean", "jpeg", "quarantine", "overlap"):
        assert f"Example: python -m train data {name}" in run(name, "--help")


def test_add_reads_a_folder_and_says_what_came_of_it(scans: Path, tmp_path: Path) -> None:
    """A dry run only counts; the cache holds the slices, the key lies beside it."""
    uid = "1.2.826.0.1.3680043.10.9999.1.1"
    (tmp_path / "labels.csv").write_text(f"series_uid,any\n{uid},1\n")
    words = ("add", "dicom-folder", scans, "--labels", tmp_path / "labels.csv", "--cache",
             tmp_path / "cache", "--size", 32, "--workers", 1)  # fmt: skip
    assert "2 series or studies" in run(*words, "--dry-run")
    assert not (tmp_path / "cache").exists()
    said = run(*words, "--name", "ours")
    assert "ours" in said
    assert "1 of 1" in said
    assert "1 left out" in said
    opened = open_cache(tmp_path / "cache")
    assert opened.spec.size_px == 32
    assert len(opened.slices) == 9
    assert (tmp_path / "patients.key").is_file()
    assert "ours" in run("list", "--cache", tmp_path / "cache")
    with pytest.raises(TrainingError, match="Only a dicom-folder"):
        run("add", "simulated", "0:1", "--cache", tmp_path / "x", "--name", "ours")


def test_the_table_has_a_row_for_every_slice(scans: Path, tmp_path: Path) -> None:
    """Tags, geometry, statistics in HU and the fraction of brain; a damaged file its problem."""
    assert "10 slices, 1 of no use" in run("table", scans, "--out", tmp_path / "t.parquet")
    table = pd.read_parquet(tmp_path / "t.parquet").set_index("file")
    assert table.index.tolist() == [f"series/{n:04}.dcm" for n in range(1, 11)]
    assert table.loc["series/0010.dcm", "problem"].startswith("undecodable")
    hu = head(positions(10))
    for number in range(9):
        row = table.loc[f"series/{number + 1:04}.dcm"]
        assert row["img_pct_window"] == pytest.approx(float(brain_fraction(hu[number])))
        assert row["img_min"] == hu[number].min()
        assert row["img_mean"] == pytest.approx(hu[number].mean(), abs=0.001)
        assert row["position_mm_2"] == 5.0 * number
        assert (row["bits_stored"], row["intercept_hu"]) == (16, -1024)
    assert "Simulated" not in table.to_csv()
    assert "SIM-1" not in table.to_csv()
    assert table["patient"].iloc[0] != ""


def test_a_folder_without_images_has_no_table(tmp_path: Path) -> None:
    """One sentence instead of an empty file."""
    (tmp_path / "a.txt").write_text("nothing")
    with pytest.raises(TrainingError, match="no CT image that can be read"):
        metadata_table(tmp_path)


def test_clean_says_what_each_filter_costs(cache: Path, tmp_path: Path) -> None:
    """Both presets with their positives; the dropped slices as a list; the cache stays as it is."""
    before = len(open_cache(cache).slices)
    said = run("clean", "--cache", cache, "--list", tmp_path / "dropped.csv")
    assert "preset careful (at least 2 % brain) drops 0 of 24 slices" in said
    assert "preset paper (at least 20 % brain) drops 0 of 24" in said
    assert "0 of 3 any" in said
    assert len(pd.read_csv(tmp_path / "dropped.csv")) == 0
    assert len(open_cache(cache).slices) == before
    with pytest.raises(TrainingError, match="no preset strict"):
        run("clean", "--cache", cache, "--preset", "strict")


def test_quarantine_counts_reasons(cache: Path, tmp_path: Path) -> None:
    """A series and a slice, each with its reason; all of it as a CSV."""
    said = run("quarantine", "--cache", cache, "--out", tmp_path / "out.csv")
    assert "undecodable" in said
    rows = list(csv.DictReader((tmp_path / "out.csv").open()))
    assert [(row["job"], row["slice"]) for row in rows] == [("3", ""), ("1", "1-x")]


def test_pictures_show_three_windows(cache: Path, tmp_path: Path) -> None:
    """Red, green and blue are windows of one slice; kinds are written as in the paper."""
    assert "24 pictures" in run("jpeg", "--cache", cache, "--out", tmp_path / "jpg")
    rows = list(csv.DictReader((tmp_path / "jpg" / "labels.csv").open()))
    slices = all_slices(open_cache(cache), 0)
    assert len(rows) == len(slices)
    assert [row["kinds"] for row in rows[:4]] == ["", "", "intraparenchymal", ""]
    assert [row["any"] for row in rows[:4]] == ["0", "0", "1", "0"]
    assert all(set(LABELS) <= set(row) for row in rows)
    picture = np.asarray(Image.open(tmp_path / "jpg" / rows[2]["file"])).astype(float)
    assert picture.shape == (32, 32, 3)
    hu = np.asarray(slices.cache.hu[2], float)
    for channel, name in enumerate(("brain", "subdural", "soft tissue")):
        low, high = WINDOWS[name]
        wanted = 255 * np.clip((hu - low) / (high - low), 0, 1)
        assert np.abs(picture[..., channel] - wanted).mean() < 6


def test_unknown_labels_of_pictures_are_blank(tmp_path: Path) -> None:
    """NaN is an empty cell and never 0; a window that does not exist is refused."""
    source = ToySource(1, unlabelled=frozenset("0"))
    slices = all_slices(build_cache(tmp_path / "cache", source, SPEC, workers=1), 0)
    rows = list(csv.DictReader(export_jpegs(slices, tmp_path / "jpg").open()))
    assert {row["any"] for row in rows} == {""}
    with pytest.raises(TrainingError, match="three windows"):
        export_jpegs(slices, tmp_path / "jpg", colours=("brain", "bone", "stroke"))


def test_overlap_fails_where_there_is_one(cache: Path, tmp_path: Path) -> None:
    """Copied scans are named, and the command fails."""
    shutil.copytree(cache, tmp_path / "copy")
    with pytest.raises(TrainingError, match="pairs of series show the same scan"):
        run("overlap", "--cache", cache, "--other", tmp_path / "copy")
