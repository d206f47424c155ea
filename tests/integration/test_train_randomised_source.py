"""Randomised heads as a source: from a template in files or none, into a cache and onto a sheet."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
import typer
from PIL import Image
from typer.testing import CliRunner

from ichnode.nets.manifest import PreprocessSpec
from ichnode.phantom.randomised.realism import Realism
from ichnode.phantom.studies import DEMONSTRATION_SEEDS, HOLDOUT_SEEDS
from tests.training_data import write_template
from train.cli import data
from train.data.cache import build_cache, open_cache
from train.data.records import is_held_out, is_simulated
from train.data.sources.bled import Bled
from train.data.sources.randomised import PICTURE_SHARE, TEMPLATE_FILES, Randomised, open_source
from train.errors import TrainingError

SIZE_PX = 64
app = typer.Typer()
data.register(app)


def run(*arguments: object) -> str:
    words = [str(one) for one in arguments]
    done = CliRunner().invoke(app, words, catch_exceptions=False, standalone_mode=False)
    return done.output


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An average head and its tissues in files, as others give them; made from a drawn one."""
    return write_template(tmp_path_factory.mktemp("template"))


def test_a_series_has_pixels_truth_and_terms(template: Path) -> None:
    """From the template and from drawn heads, with the truth of every voxel."""
    source = open_source(f"{template}:0:8", None, b"")
    assert source == Randomised(range(8), template, picture_share=PICTURE_SHARE)
    assert "Rorden" in source.licence.cite
    assert "BSD-2" in source.licence.name
    assert open_source("0:8", None, b"").licence.name == "Apache-2.0"
    assert not source.licence.non_commercial
    small = Randomised(range(8), template, SIZE_PX)
    drawn = Randomised(range(8), None, SIZE_PX)
    same = [np.array_equal(small.read(job).hu, drawn.read(job).hu) for job in small.jobs()[:4]]
    assert not all(same)  # some are from the template
    one = small.read("3")
    assert one.kinds is not None
    assert one.kinds.shape == one.hu.shape
    assert one.hu.shape[1:] == (SIZE_PX, SIZE_PX)
    assert np.array_equal(one.hu, small.read("3").hu)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_a_gpu_simulates_the_same_kind_of_heads() -> None:
    """Other random fields, but the same slices, bleeds and tissues."""
    for job in ("3", "4", "5"):
        here, there = (
            Randomised(range(8), None, SIZE_PX, device=device).read(job)
            for device in ("cpu", "cuda")
        )
        assert here.hu.shape == there.hu.shape
        assert here.spacing_mm == there.spacing_mm
        brain = [one.hu[(one.hu > 10) & (one.hu < 60)].mean() for one in (here, there)]
        assert brain[0] == pytest.approx(brain[1], abs=2)
        shown = [np.nan_to_num(one.slice_labels, nan=0.5).max(axis=0) for one in (here, there)]
        assert np.abs(shown[0] - shown[1]).max() <= 0.5


def test_a_device_is_for_those_that_are_simulated_on_one(tmp_path: Path) -> None:
    """And one that is not there, or is no device, is said before anything is read."""
    with pytest.raises(TrainingError, match="Only randomised heads"):
        run("data", "add", "simulated", "0:2", "--cache", tmp_path / "cache", "--device", "cuda")
    with pytest.raises(TrainingError, match="auto, cpu or cuda"):
        run("data", "add", "randomised", "0:2", "--cache", tmp_path / "c", "--device", "tpu")
    run(
        "data",
        "add",
        "simulated",
        "0:1",
        "--cache",
        tmp_path / "c",
        "--device",
        "auto",
        "--size",
        "64",
    )
    assert len(open_cache(tmp_path / "c").series_rows()) == 1


def test_heads_of_a_gpu_are_not_mixed_with_others(tmp_path: Path) -> None:
    """A seed gives another head there: a cache that was begun on one does not go on elsewhere."""
    here, there = (Randomised(range(2), None, SIZE_PX, device=one) for one in ("cpu", "cuda"))
    assert here.labels_digest != there.labels_digest
    spec = PreprocessSpec(size_px=SIZE_PX, windows_hu=((0.0, 80.0),))
    build_cache(tmp_path / "cache", here, spec, workers=1, jobs=["0"])
    with pytest.raises(TrainingError, match="labels"):
        build_cache(tmp_path / "cache", there, spec, workers=1)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_gpu_that_fails_ends_the_build(tmp_path: Path) -> None:
    """It is no fault of the series: none of them goes into quarantine for it."""
    source = Randomised(range(2), None, SIZE_PX, device="cuda")
    spec = PreprocessSpec(size_px=SIZE_PX, windows_hu=((0.0, 80.0),))
    with pytest.raises(TrainingError, match="fewer --workers"):
        build_cache(tmp_path / "cache", source, spec, workers=1)


def test_series_of_several_simulators_are_not_mixed(tmp_path: Path, template: Path) -> None:
    """A cache is not added to with other settings, another anatomy, or what left one stage out."""
    spec = PreprocessSpec(size_px=48, windows_hu=((0.0, 80.0),))
    build_cache(tmp_path / "cache", Randomised(range(1), None, SIZE_PX), spec, workers=1)
    others = (
        Randomised(range(2), None, SIZE_PX + 1),
        Randomised(range(2), template, SIZE_PX),
        Randomised(range(2), None, SIZE_PX, picture_share=0.5),
        Randomised(range(2), None, SIZE_PX, realism=Realism(grain=False)),
    )
    for other in others:
        with pytest.raises(TrainingError, match="or what simulates them, are others"):
            build_cache(tmp_path / "cache", other, spec, workers=1)
    build_cache(tmp_path / "cache", Randomised(range(2), None, SIZE_PX), spec, workers=1)


def test_some_series_are_as_pictures_hold_them() -> None:
    """Within the brain window they are the same; beyond it, typical values."""
    whole = Randomised(range(8), None, SIZE_PX).read("2").hu.astype(int)
    seen = Randomised(range(8), None, SIZE_PX, picture_share=1.0).read("2").hu.astype(int)
    shown = (whole > 2) & (whole < 78)
    assert np.abs(seen - whole)[shown].max() <= 1
    assert set(np.unique(seen[whole > 200])) <= {80, 350, 900}
    assert (seen[whole < -800] == -1000).mean() > 0.9


def test_series_that_hardly_show_blood_are_not_learnt_from_as_none(tmp_path: Path) -> None:
    """What is neither plain nor absent stays unknown in the cache."""
    spec = PreprocessSpec(size_px=48, windows_hu=((0.0, 80.0),))
    cache = build_cache(tmp_path / "cache", Randomised(range(10), None, SIZE_PX), spec, workers=1)
    known = cache.slices["any"]
    assert (known == 1).any()
    assert (known == 0).any()
    assert known.isna().any()
    assert cache.kinds is not None
    shown = np.asarray(cache.kinds).any(axis=(1, 2))
    assert shown[(known == 1).to_numpy()].mean() > 0.9
    assert not shown[(known == 0).to_numpy()].any()


def test_seeds_of_others_are_refused(tmp_path: Path) -> None:
    """One sentence, and nothing is simulated."""
    for path in ("heads", "5:5", f"{DEMONSTRATION_SEEDS.start}:{DEMONSTRATION_SEEDS.start + 2}"):
        with pytest.raises(TrainingError, match=r"range of seeds|Seeds to train on"):
            open_source(path, None, b"")
    with pytest.raises(TrainingError, match="leave --labels out"):
        open_source("0:2", tmp_path / "labels.csv", b"")
    with pytest.raises(TrainingError, match="holds no template"):
        for job in map(str, range(9)):
            Randomised(range(9), tmp_path, SIZE_PX).read(job)
    first = HOLDOUT_SEEDS.start
    assert open_source(f"{first}:{first + 2}", None, b"").name == "randomised-holdout"


def test_negatives_of_a_site_are_bled(tmp_path: Path) -> None:
    """Positives are left out with the reason; the patient stays the same, the dataset says what."""
    out = tmp_path / "cache"
    told = run(
        "data", "add", "simulated", "3:5", "--cache", out, "--size", 64, "--bleed", 2,
        "--workers", 1,
    )  # fmt: skip
    assert "simulated-bled: 4 series" in told
    found = open_cache(out)
    assert set(found.slices["dataset"]) == {"simulated-bled"}
    assert set(found.slices["series"]) == {"sim-3+0", "sim-3+1"}
    assert set(found.slices["patient"]) == {"sim-3"}
    assert (found.slices["any"] == 1).any()
    assert set(found.slices["label_source"]) == {"simulated bleed in a scan without haemorrhage"}
    assert set(found.quarantine["reason"]) == {"not known to be without haemorrhage"}


def test_names_say_what_is_simulated_and_what_is_held_out() -> None:
    """Whatever is made of heads to measure on stays one of these; blood that is made up is so."""
    first = HOLDOUT_SEEDS.start
    held = Bled(open_source(f"{first}:{first + 1}", None, b""), 1)
    assert held.name == "randomised-holdout-bled"
    assert is_held_out(held.name)
    assert not is_held_out("dicom-folder-bled")
    assert all(map(is_simulated, ("simulated", "randomised-holdout", "dicom-folder-bled")))
    assert not is_simulated("dicom-folder")


def test_a_template_of_other_voxels_is_refused(tmp_path: Path) -> None:
    """Heads would be as flat as its voxels."""
    for name in TEMPLATE_FILES:
        image = nibabel.Nifti1Image(np.zeros((8, 8, 8), np.float32), np.diag([3.0, 3.0, 6.0, 1.0]))
        nibabel.save(image, tmp_path / f"{name}.nii.gz")
    with pytest.raises(TrainingError, match="cubic voxels"):
        for job in map(str, range(9)):
            Randomised(range(9), tmp_path, SIZE_PX).read(job)


def test_a_sheet_shows_some_slices_of_each_series(tmp_path: Path) -> None:
    """A row a series; blood is outlined in colour."""
    out = tmp_path / "sheet.png"
    told = run("data", "gallery", "simulated", "3:6", "--out", out, "--series", 2)
    assert told.startswith("2 series of simulated are on")
    picture = np.asarray(Image.open(out)).astype(int)
    assert picture.shape[0] > 2 * 150
    coloured = (picture[..., 0] - picture[..., 2]) > 100
    assert coloured.any()
    with pytest.raises(TrainingError, match="A window is one of"):
        run("data", "gallery", "simulated", "0:2", "--out", out, "--window", "liver")
    with pytest.raises(TrainingError, match="cannot be written"):
        run("data", "gallery", "simulated", "0:1", "--out", tmp_path / "no" / "sheet.png")
