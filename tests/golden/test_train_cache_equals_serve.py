"""What training learns from is, bit by bit, what serving shows a network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ichnode.imaging.header import read_header
from ichnode.imaging.volume import CtVolume, read_series
from ichnode.nets.manifest import PreprocessSpec
from ichnode.nets.preprocess import channels, preprocess
from ichnode.phantom import write_study
from ichnode.phantom.studies import DEMONSTRATION_SEEDS
from train.data.cache import build_cache
from train.data.reading import read_files, stack
from train.data.sources.known import open_known
from train.data.views import all_slices

SEED = DEMONSTRATION_SEEDS.start + 400
SPEC = PreprocessSpec(size_px=64, windows_hu=((0.0, 80.0), (-20.0, 180.0)), context_slices=1)


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, CtVolume]:
    """A simulated study as files, and its head series as the node reads it."""
    folder = tmp_path_factory.mktemp("scan")
    study = write_study(folder, SEED, bleeds=("subdural",), size_px=128, extras=("bone",))
    files = [(read_header(path), path) for path in study.series["head"]]
    return folder, read_series(files, complete=True)


def test_the_lenient_reading_of_a_sound_series_is_the_nodes(scan: tuple[Path, CtVolume]) -> None:
    """Values, order, spacing and positions are the same."""
    folder, volume = scan
    found = stack(read_files((folder / "head").iterdir()).slices)
    assert np.array_equal(found.hu, volume.hu)
    assert found.spacing_mm == volume.spacing_mm
    assert np.array_equal(found.positions_mm, volume.positions_mm)
    assert found.warnings == ()


@pytest.mark.parametrize("level", ["study_uid", "series_uid"])
def test_the_input_from_the_cache_is_that_of_serving(
    scan: tuple[Path, CtVolume], tmp_path: Path, level: str
) -> None:
    """By whichever label a series came into the cache, its channels are those of `preprocess`."""
    folder, volume = scan
    header = read_header(folder / "head" / "0001.dcm")
    (tmp_path / "labels.csv").write_text(f"{level},any\n{getattr(header, level)},1\n")
    source = open_known("dicom-folder", str(folder), tmp_path / "labels.csv", b"key")
    slices = all_slices(build_cache(tmp_path / "cache", source, SPEC, workers=1), 1)
    stacks = slices.stacks(np.arange(len(slices)))
    middle = torch.arange(3)[None]
    learnt = torch.cat([channels(one, middle, SPEC) for one in stacks])
    served = preprocess(
        torch.from_numpy(volume.hu), volume.spacing_mm, volume.positions_mm.tolist(), SPEC
    )
    assert torch.equal(learnt, served)


@pytest.mark.real
def test_a_real_tilted_scan_is_read_as_on_the_node(real_data: Path) -> None:
    """Slices of two thicknesses, sheared positions, padding without a scan: the same volume."""
    files = sorted((real_data / "head_ct_ge").glob("*.dcm"))
    volume = read_series([(read_header(path), path) for path in files], complete=True)
    reading = read_files(files)
    found = stack(reading.slices)
    assert reading.left_out == ()
    assert np.array_equal(found.hu, volume.hu)
    assert found.spacing_mm == volume.spacing_mm
    assert not any(one.facts.repaired or one.facts.hu_suspect for one in reading.slices)
