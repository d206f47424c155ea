"""PNG pictures as scans: their order, how they lie, and how they are stored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.measuring_kit import run
from tests.scan_folders import (
    head,
    picture,
    picture_series,
)
from train.carryover.pictures import Picturing, read_png
from train.carryover.reading import read_stack
from train.errors import Unusable


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
