"""A mask of a slice, packed into a result and back."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from ichnode.domain.findings import BloodMask
from ichnode.imaging.masks import pack, unpack


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
    with pytest.raises(ValueError, match=r"mask|base64|padding"):
        unpack(BloodMask("1.2.3", 64, 64, packed))
    whole = pack("1.2.3", np.zeros((4000, 4000), np.bool_))
    with pytest.raises(ValueError, match="size"):
        unpack(dataclasses.replace(whole, rows=8, columns=8))
