"""The stack does not depend on the order of arrival, on repeats, on tilt or on spacing."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from ichnode.domain.series import Header
from ichnode.imaging.geometry import holes, is_plausible, tilt_deg
from ichnode.imaging.stacking import Slice, choose_stack

steps_mm = st.lists(st.sampled_from([0.6, 1.0, 2.5, 3.3, 5.0, 7.0]), min_size=8, max_size=40)
tilts = st.floats(-30, 30)
starts = st.floats(-1500, 1500).map(lambda mm: round(mm, 3))


def series(steps: list[float], tilt: float, start: float) -> list[Slice]:
    """Slices as a gantry tilted by so many degrees takes them, the table moving straight."""
    c, s = math.cos(math.radians(tilt)), math.sin(math.radians(tilt))
    orientation = (1.0, 0.0, 0.0, 0.0, c, -s)
    slices = []
    for number, z in enumerate(start + np.cumsum([0.0, *steps]) / c):
        position = (-125.0, -125.0, float(z))
        header = Header(
            sop_uid=f"1.2.3.{number}",
            sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
            series_uid="1.2.3",
            study_uid="1.2",
            instance_number=number,
            acquisition_number=1,
            rows=512,
            columns=512,
            pixel_spacing_mm=(0.5, 0.5),
            orientation=orientation,
            position_mm=position,
        )
        slices.append(
            Slice(header, Path(f"{number}"), 0, position, orientation, (0.5, 0.5), None, 1)
        )
    return slices


def uids(slices) -> list[str]:
    return [held.uid for held in slices]


@given(steps_mm, tilts, starts, st.randoms(use_true_random=False))
def test_order_is_anatomical_whatever_the_order_of_arrival(steps, tilt, start, chance):
    """Shuffled, tilted and unequally spaced slices come out from the feet upwards."""
    slices = series(steps, tilt, start)
    shuffled = chance.sample(slices, len(slices))
    stack = choose_stack(shuffled)
    assert uids(stack.slices) == uids(slices)
    np.testing.assert_allclose(np.diff(stack.along_mm), steps, atol=1e-6)
    assert stack.warnings == ()


@given(steps_mm, tilts, starts)
def test_tilt_is_found_from_positions(steps, tilt, start):
    """The measured tilt is the gantry's."""
    slices = series(steps, tilt, start)
    plane = choose_stack(slices).plane
    assert abs(tilt_deg([held.position_mm for held in slices], plane) - abs(tilt)) < 1e-3


@given(steps_mm, tilts, starts, st.data())
def test_a_rescan_of_a_part_is_left_out_whole(steps, tilt, start, data):
    """Repeated slices of a later, shorter acquisition never get into the stack."""
    slices = series(steps, tilt, start)
    first = data.draw(st.integers(0, len(slices) - 3))
    count = data.draw(st.integers(2, len(slices) - first - 1))
    again = [
        replace(
            held,
            header=replace(held.header, sop_uid=f"1.2.4.{number}", acquisition_number=2),
            acquisition=2,
        )
        for number, held in enumerate(slices[first : first + count])
    ]
    mixed = data.draw(st.permutations(slices + again))
    stack = choose_stack(mixed)
    assert uids(stack.slices) == uids(slices)
    assert stack.warnings == (f"{count} repeated slices left out",)


@example([0.6] * 6 + [1.0, 0.6], 1.0, random.Random(0))  # a tie: 1.0 = 1.5 * 0.6 + 0.1
@given(steps_mm, st.floats(-1000, 1000), st.randoms(use_true_random=False))
def test_holes_do_not_depend_on_origin_or_order(steps, shift, chance):
    """Moving or shuffling the stack finds the same holes."""
    places = np.cumsum([0.0, *steps])
    moved = [float(place) + shift for place in places]
    chance.shuffle(moved)
    assert holes(moved) == holes(places)


@given(
    st.sampled_from([0.6, 1.0, 2.5, 5.0]),
    st.integers(8, 40),
    st.data(),
)
def test_an_even_stack_is_plausible_until_a_slice_is_taken_out(step, count, data):
    """Any inner slice that is missing from an even stack leaves exactly one hole."""
    places = [step * number for number in range(count)]
    assert is_plausible(places)
    missing = data.draw(st.integers(1, count - 2))
    del places[missing]
    assert holes(places) == [missing - 1]


@given(
    st.integers(4, 20), st.integers(4, 20), st.sampled_from([1.25, 2.5, 4.0]),
    st.sampled_from([5.0, 7.0, 10.0]),
)  # fmt: skip
def test_a_lasting_change_of_spacing_is_no_hole(thin, thick, thin_mm, thick_mm):
    """Thin slices below and thick ones above, or the other way round."""
    steps = [thin_mm] * thin + [thick_mm] * thick
    assert holes(np.cumsum([0.0, *steps])) == []
    assert holes(np.cumsum([0.0, *reversed(steps)])) == []
