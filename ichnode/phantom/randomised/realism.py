"""Which stages of a simulated series are at work, to find out what a network learns from each."""

from __future__ import annotations

from dataclasses import dataclass

REVISION = 4
"""Of all that decides a randomised series; another one when the same seed gives another series."""


@dataclass(frozen=True, slots=True)
class Realism:
    """What a series is made with; by default everything.

    A stage that is switched off draws its numbers all the same and leaves nothing behind, so that
    head, bleeds and scanner of a seed are the same with and without it.

    Attributes
    ----------
    grain : bool
        Whether noise has the texture that a kernel gives it; without, each pixel has its own, of
        the same deviation.
    distractors : bool
        Whether there is anything that looks like blood and is none, or hides it: dense membranes
        and vessels, calcifications, diseases, traces of surgery; and what the scanner adds beside
        blur and noise: hardening, streaks, metal, motion, the couch.
    visibility : bool
        Whether a slice is positive where its blood can be seen, and unknown where it hardly can;
        without, wherever it holds any, and every place of it counts.
    """

    grain: bool = True
    distractors: bool = True
    visibility: bool = True


WHOLE = Realism()
