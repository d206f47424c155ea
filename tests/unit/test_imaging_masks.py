"""A mask and a heat map of a slice, packed into a result and back."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from ichnode.domain.findings import BloodMask
from ichnode.imaging.masks import PLACES, Heat, pack, pack_heat, unpack, unpack_heat


@pytest.mark.parametrize("shape", [(512, 512), (33, 7), (1, 1)])
def test_what_is_packed_comes_back(shape: tuple[int, int]) -> None:
    """Also where the pixels do not fill whole bytes."""
    mask = np.random.default_rng(1).random(shape) < 0.3
    assert np.array_equal(unpack(pack("1.2.3", mask)), mask)


def test_a_bleed_takes_little_room() -> None:
    """A result is kept in the database for as long as its study."""
    rows, columns = np.mgrid[0:512, 0:512]
    bleed = (rows - 200) ** 2 / 900 + (columns - 300) ** 2 / 400 < 1
    assert len(pack("1.2.3", bleed).packed) < 1000


@pytest.mark.parametrize("packed", ["", "AAAA", "eJxjYGAAAAADAAE=", "no base64!"])
def test_a_damaged_mask_is_said_to_be_one(packed: str) -> None:
    """With one kind of error; a size that another text claims is not made room for."""
    with pytest.raises(ValueError, match=r"drawn|base64|padding"):
        unpack(BloodMask("1.2.3", 64, 64, packed))
    whole = pack("1.2.3", np.zeros((4000, 4000), np.bool_))
    with pytest.raises(ValueError, match="size"):
        unpack(dataclasses.replace(whole, rows=8, columns=8))


@pytest.mark.parametrize(("places", "box"), [(PLACES, (10, -20, 500, 520)), (1, (0, 0, 1, 1))])
def test_a_packed_heat_map_comes_back(places: int, box: tuple[int, int, int, int]) -> None:
    """With the part of the slice that it covers, which may reach beyond; in little room."""
    chances = np.random.default_rng(2).integers(0, 256, (places, places), np.uint8)
    held = pack_heat("1.2.3", (512, 480), Heat(chances, box))
    assert (held.slice_uid, held.rows, held.columns) == ("1.2.3", 512, 480)
    assert len(held.packed) < 6000
    found = unpack_heat(held)
    assert np.array_equal(found.chances, chances)
    assert found.box == box


@pytest.mark.parametrize(
    "changes",
    [
        {"packed": ""},
        {"packed": "AAAA"},
        {"packed": "no base64!"},
        {"packed": None},
        {"packed": pack("1.2.3", np.zeros((4000, 4000), np.bool_)).packed},
        {"places": 7},
        {"places": 0},
        {"places": -8},
        {"places": "8"},
        {"places": 2_000_000},
        {"height": 0},
        {"width": -3},
        {"width": 10**400},
        {"left": 0.5},
        {"top": -(10**9)},
    ],
    ids=str,
)
def test_a_damaged_heat_map_is_said_to_be_one(changes: dict[str, Any]) -> None:
    """With one kind of error, whatever was stored in place of it."""
    held = pack_heat("1.2.3", (64, 64), Heat(np.zeros((8, 8), np.uint8), (0, 0, 64, 64)))
    with pytest.raises(ValueError, match=r"drawn|heat map|base64|padding"):
        unpack_heat(dataclasses.replace(held, **changes))
