"""Results as text: what came later is left out where it is not, and damage costs no result."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ichnode.imaging.masks import Heat, pack, pack_heat
from ichnode.worklist.columns import result_of, result_text
from tests.documents import result

PLAIN = result(["1.2.1", "1.2.2", "1.2.3"])
DRAWN = replace(
    PLAIN,
    key_mask=pack("1.2.2", np.ones((8, 8), np.bool_)),
    key_heat=pack_heat("1.2.2", (8, 8), Heat(np.full((4, 4), 9, np.uint8), (0, 0, 8, 8))),
)


def test_what_was_drawn_comes_back() -> None:
    """Mask and heat map, as they were."""
    assert result_of(result_text(DRAWN)) == DRAWN


def test_a_result_of_before_heat_maps_is_read() -> None:
    """One without anything drawn is the text that it always was."""
    held = json.loads(result_text(PLAIN))
    assert not {"key_mask", "key_heat"} & held.keys()
    assert result_of(result_text(PLAIN)) == PLAIN


@pytest.mark.parametrize("damaged", [None, "text", 5, [], {}, {"slice_uid": "1.2.2"}, {"more": 1}])
@pytest.mark.parametrize("name", ["key_mask", "key_heat"])
def test_a_drawing_of_another_form_is_none(name: str, damaged: Any) -> None:
    """The result stands: a report is due, whatever became of what was drawn beside it."""
    held = json.loads(result_text(DRAWN)) | {name: damaged}
    assert result_of(json.dumps(held)) == replace(DRAWN, **{name: None})
