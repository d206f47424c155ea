"""The page of an exploration: what is on it, that it stands alone, and the two commands."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from ichnode.domain.findings import LABELS
from ichnode.nets.manifest import PreprocessSpec
from tests.miniatures import write_bhsd, write_cq500, write_ct_ich, write_kitamura, write_rsna
from train.cli.app import app, register_all
from train.data.cache import Cache, build_cache
from train.data.cleaning import clean
from train.data.sources.known import open_known
from train.data.sources.simulated import Simulated
from train.data.table import metadata_table, save_table
from train.data.views import all_slices
from train.data.window import WINDOWS
from train.errors import TrainingError
from train.explore.explored import of_cache, of_table, open_explored
from train.explore.exploring import explore
from train.explore.page import badges, write_page

SPEC = PreprocessSpec(size_px=48, windows_hu=((0.0, 80.0),))
SETS = {
    "rsna": write_rsna,
    "cq500": write_cq500,
    "ct-ich": write_ct_ich,
    "bhsd": write_bhsd,
    "kitamura": write_kitamura,
}


class Links(HTMLParser):
    """Collects what a page would load or leads to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.images = 0
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        named = dict(attrs)
        self.images += tag == "img"
        self.found += [named[name] for name in ("src", "href") if name in named]
        if tag == "img":
            assert named.get("alt")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("explored")


@pytest.fixture(scope="module")
def cache(folder: Path) -> Cache:
    """All five public sets in miniature, in one cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "caches"))
        for name, write in SETS.items():
            write(folder / name)
            source = open_known(name, str(folder / name), None, b"key")
            built = build_cache(folder / "cache", source, SPEC, workers=1)
    return built


@pytest.fixture(scope="module")
def page(cache: Cache, folder: Path) -> str:
    return write_page(folder / "out", explore(of_cache(cache))).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def figures(page: str, folder: Path) -> dict:
    return json.loads((folder / "out" / "exploration.json").read_text())


def run(*arguments: object):
    register_all()
    return CliRunner().invoke(
        app, [str(one) for one in arguments], catch_exceptions=False, standalone_mode=False
    )


def test_the_page_stands_alone(page):
    """Nothing is loaded from anywhere: pictures are in it, links stay on it."""
    links = Links(page)
    assert all(one.startswith(("#", "data:image/")) for one in links.found)
    assert "<script" not in page
    assert "@import" not in page
    assert "url(" not in page
    targets = {one for one in links.found if one.startswith("#")}
    assert all(f'id="{one[1:]}"' in page for one in targets)


def test_every_section_is_on_it(page):
    """What the issue asks for: labels, kinds, bits, scanners, windows, brain, sources, alarms."""
    for heading in (
        "What would flatter a model", "Slices, through each window", "Bleed or not",
        "Subtypes, and which occur together", "Bits stored, and what goes with them", "Scanners",
        "Series: length, distance, thickness", "How much of a slice is brain", "Sources",
        "Left out, and why", "Metadata baseline",
    ):  # fmt: skip
        assert f">{heading}</h2>" in page
    for name, (low, high) in WINDOWS.items():
        assert f"{name}<span>{low:g} to {high:g} HU</span>" in page


def test_each_kind_is_shown_in_each_window(page, cache):
    """A slice without blood and one of each kind that is there, five windows each, as PNG."""
    kinds = 1 + sum((cache.slices[label] == 1).any() for label in LABELS[1:])
    assert page.count("data:image/png;base64,") == kinds * len(WINDOWS)
    assert page.count("data:image/svg+xml;base64,") >= 7


def test_counts_are_those_of_the_cache(figures, cache):
    """Slices and series with, without and unknown, by label."""
    for label in LABELS:
        column = cache.slices[label]
        assert figures["labels"]["slices"][label]["present"] == (column == 1).sum()
        assert figures["labels"]["slices"][label]["absent"] == (column == 0).sum()
        assert figures["labels"]["slices"][label]["unknown"] == column.isna().sum()
    series = cache.slices.drop_duplicates("series_number")
    assert figures["series"] == len(series)
    assert figures["labels"]["series"]["any"]["present"] == (series["series_any"] == 1).sum()
    assert figures["patients"] == series["patient"].nunique()


def test_kinds_that_occur_together_are_counted(figures, cache):
    """Every slice whose kinds are known and that shows one is in one combination."""
    kinds = cache.slices[list(LABELS[1:])].to_numpy()
    known = kinds[~np.isnan(kinds).any(axis=1)]
    assert sum(figures["combinations"]["counts"].values()) == known.any(axis=1).sum()
    both = (known[:, LABELS.index("subarachnoid") - 1] == 1) & (
        known[:, LABELS.index("subdural") - 1] == 1
    )
    assert figures["combinations"]["counts"]["subarachnoid + subdural"] == both.sum()


def test_bits_stored_go_with_prevalence(figures):
    """Series of 12, 16 and 8 bits are told apart, each with how many show blood."""
    bits = {one["name"]: one for one in figures["groups"]["bits"]}
    assert bits["12 bits"]["series"] == 1
    assert bits["12 bits"]["series_with_blood"]["share"] == 0
    assert bits["8 bits"]["mostly"].startswith("kitamura 100 %")
    stored = {one["name"] for one in figures["groups"]["storage"]}
    assert "12 bits, unsigned, intercept 0" in stored
    assert "16 bits, signed, intercept -1024" in stored


def test_both_filters_say_what_they_drop(figures, cache):
    """The same figures as the filters themselves give."""
    for preset in ("careful", "paper"):
        report = clean(all_slices(cache, 0), preset)[1]
        assert figures["filters"][preset]["slices_dropped"] == report.dropped
        assert figures["filters"][preset]["positives_dropped"] == report.positives_dropped


def test_sources_are_balanced_against_each_other(figures):
    """Each source with its terms, what is labelled, and how many show blood."""
    sources = {one["name"]: one for one in figures["sources"]}
    assert set(sources) == set(SETS)
    assert sources["cq500"]["labelled"] == "series"
    assert sources["kitamura"]["labelled"] == "slices, any alone"
    assert sources["bhsd"]["labelled"] == "slices; voxels of 2 series"
    assert "RSNA" in sources["rsna"]["licence"]


def test_what_was_left_out_is_counted_by_reason(figures):
    """Series and slices of the quarantine, by dataset and reason."""
    rows = {
        (one["dataset"], one["what"], one["reason"]): one["count"] for one in figures["left_out"]
    }
    assert rows["rsna", "slices", "undecodable"] == 1
    assert rows["cq500", "series", "no plain series"] == 1
    assert rows["ct-ich", "slices", "labels contradict themselves"] == 1


def test_scans_that_are_in_two_sets_are_seen(figures):
    """BHSD was cut out of RSNA: the copies are found in the pixels, and are of one patient."""
    found = {one["name"]: one for one in figures["alarms"]}
    assert found["One scan twice"]["state"] == "look"
    assert "2 pairs of series" in found["One scan twice"]["found"]


def test_images_of_patients_are_called_so(cache):
    """Images of patients are called so, terms that are non-commercial too."""
    texts = [badge["text"] for badge in badges(explore(of_cache(cache)))]
    assert "Non-commercial" in texts
    assert any(text.startswith("Images of patients") for text in texts)


def test_simulated_data_are_called_simulated(tmp_path):
    """Where every label is of a simulation the page says so on top and at the end."""
    source = Simulated(range(3, 5), size_px=64)
    cache = build_cache(tmp_path / "cache", source, SPEC, workers=1)
    page = write_page(tmp_path, explore(of_cache(cache))).read_text()
    assert '<li class="bad">Simulated data</li>' in page
    assert "Everything here was simulated." in page
    assert "Images of patients" not in page


def test_a_table_of_metadata_can_be_explored(folder, cache, tmp_path):
    """The paper's table has no labels and no pixels: what it has is shown, the rest is said."""
    table = metadata_table(folder / "rsna" / "stage_2_train", workers=1)
    save_table(table, tmp_path / "table.parquet")
    found = explore(open_explored(tmp_path / "table.parquet"))
    assert len(found.explored.slices) == 35
    assert found.left_out == [("table", "slices", "undecodable", 1)]
    assert {one.name: one.state for one in found.alarms}["Both classes"] == "unknown"
    page = write_page(tmp_path, found).read_text()
    assert "none of them labelled" in page
    assert "No kinds are labelled." in page
    assert "data:image/png" not in page


def test_the_same_cache_gives_the_same_page(cache, page, folder):
    """Nothing on it depends on when or how often it is made."""
    again = write_page(folder / "again", explore(of_cache(cache))).read_text(encoding="utf-8")
    assert again == page


def test_the_command_writes_a_page_without_pictures(cache, tmp_path):
    """Without pictures the page may be kept where images of patients may not."""
    told = run("explore", cache.folder, "--out", tmp_path, "--no-pictures")
    assert "Blood is in" in told.stdout
    assert "LOOK: One scan twice." in told.stdout
    page = (tmp_path / "exploration.html").read_text()
    assert "data:image/png" not in page
    assert "Slices, through each window" not in page


def test_the_baseline_command_says_what_it_found(cache, tmp_path):
    """Both levels, in words and as JSON."""
    told = run("baseline", "--cache", cache.folder, "--out", tmp_path / "baseline.json")
    assert "Not tried on series: 9 patients with" in told.stdout
    written = json.loads((tmp_path / "baseline.json").read_text())
    assert set(written) == {"series", "slice"}
    assert re.search(r"at least 10 of each are needed", written["series"]["why_not"])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("explore", "nowhere", "--out", "out"), "There is no nowhere"),
        (("baseline", "--cache", "nowhere"), "There is no nowhere"),
    ],
)
def test_what_is_not_there_is_said_in_one_sentence(arguments, sentence, tmp_path, monkeypatch):
    """A cache that is none stops both commands."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TrainingError, match=sentence):
        run(*arguments)


def test_wrong_options_are_said_in_one_sentence(cache, tmp_path):
    """An unknown label, an unknown level, a key that is not there, another table."""
    with pytest.raises(TrainingError, match="The label is one of"):
        run("baseline", "--cache", cache.folder, "--label", "blood")
    with pytest.raises(TrainingError, match="The level is one of"):
        run("baseline", "--cache", cache.folder, "--level", "pixel")
    with pytest.raises(TrainingError, match="There is no key"):
        run("explore", cache.folder, "--out", tmp_path, "--key", tmp_path / "no.key")
    with pytest.raises(TrainingError, match="is no table of"):
        open_explored(cache.folder / "slices.parquet")
    nothing = pd.DataFrame({"file": ["a"], "sop_uid": [""], "problem": ["undecodable"]})
    with pytest.raises(TrainingError, match="No image of nothing can be used"):
        of_table("nothing", nothing)
