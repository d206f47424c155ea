"""Which engine a model runs on: the best that works, the next where it fails, and back again.

An engine may fail over one odd series, or for as long as somebody else has the memory of its
device. Both pass, so that the better engines are tried again, after pauses that grow where it was
in vain; and while one of them is left out, `Engines.lesser` says so. An engine that was never
exact enough for a model is no better one: it is passed over for good.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
import structlog

from ichnode.domain.errors import ModelUnusable
from ichnode.infer.device import Engine, EngineMaker
from ichnode.nets.bundle import Bundle
from ichnode.nets.runnable import read_series
from ichnode.nets.selftest import self_test_series

log = structlog.get_logger(__name__)

PAUSE_S = 300.0  # until the better engines are tried again
LONGEST_PAUSE_S = 6 * 3600.0  # it is twice as long each time that none of them read a series


class Engines:
    """The engines of a model, and the one that runs.

    Parameters
    ----------
    bundle : Bundle
        The model.
    makers : sequence of EngineMaker
        The best first.
    now_s : callable
        The time in seconds, which never goes back.

    Attributes
    ----------
    running : Engine
        The first that passed the model's self-test and has not failed since.
    lesser : str or None
        Why it is not the best, a sentence; None where it is, or where the best on its device were
        not exact enough.

    Raises
    ------
    ModelUnusable
        When the model fails its self-test on every engine.
    """

    def __init__(
        self,
        bundle: Bundle,
        makers: Sequence[EngineMaker],
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bundle, self._makers, self._now_s = bundle, tuple(makers), now_s
        self._failed: dict[int, str] = {}  # places of engines to be tried again, with why
        self._unfit: dict[int, tuple[str, str]] = {}  # never exact enough: their names, devices
        self._passed: set[int] = set()
        self._pause_s, self._again_at_s = PAUSE_S, 0.0
        self._take(*self._first(range(len(self._makers))))
        if self.lesser:
            self._wait()

    @property
    def is_last(self) -> bool:
        """Whether there is none left to take over."""
        return not self._after()

    def leave(self, why: str) -> None:
        """Let the next engine take over.

        Parameters
        ----------
        why : str
            The type of the error.

        Raises
        ------
        ModelUnusable
            When no engine is left that passes the self-test.
        """
        log.error("engine.left", device=self.running.name, error=why)
        self._failed[self._place] = f"{self.running.name}: {why}"
        if self._now_s() >= self._again_at_s:  # or it is the next one in vain over the same series
            self._wait()
        self._take(*self._first(self._after()))

    def try_better(self) -> None:
        """Go back to a better engine where one failed, is due to be tried and works again."""
        better = sorted(place for place in self._failed if place < self._place)
        if not better or self._now_s() < self._again_at_s:
            return
        try:
            self._take(*self._first(better))
            log.info("engine.resumed", device=self.running.name)
        except ModelUnusable:
            log.warning("engine.not_resumed", device=self.running.name)
        if self.lesser:
            self._wait()

    def worked(self) -> None:
        """Note that the engine that runs has read a series."""
        if not self.lesser:
            self._pause_s = PAUSE_S

    def _after(self) -> list[int]:
        places = range(self._place + 1, len(self._makers))
        return [place for place in places if place not in self._unfit]

    def _wait(self) -> None:
        self._again_at_s = self._now_s() + self._pause_s
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)

    def _take(self, place: int, engine: Engine) -> None:
        """Run an engine; what is said of it is made here, once, since other threads ask for it."""
        self._place, self.running = place, engine
        left = [why for other, why in sorted(self._failed.items()) if other < place]
        left += [
            f"{name}: not exact enough for this model"
            for other, (name, device) in sorted(self._unfit.items())
            if other < place and device != engine.device.type
        ]
        because = "".join(left[:1])
        self.lesser: str | None = (
            f"The model runs on {engine.name}: a better engine failed ({because})."
            if because
            else None
        )

    def _first(self, places: Sequence[int]) -> tuple[int, Engine]:
        """Return the first engine of these places that passes the self-test, with its place."""
        for place in places:
            try:
                engine = self._makers[place](self._bundle.networks)
                off = self_test(self._bundle, engine)
            except RuntimeError as error:
                log.warning("engine.failed", error=type(error).__name__)
                self._failed.setdefault(place, type(error).__name__)
                continue
            if off is None:
                self._passed.add(place)
                self._failed.pop(place, None)
                return place, engine
            log.warning("engine.differs", engine=engine.name, detail=off)
            if place in self._passed:  # it is not what it was
                self._failed[place] = f"{engine.name}: differs from the self-test"
            else:
                self._failed.pop(place, None)
                self._unfit[place] = (engine.name, engine.device.type)
        raise ModelUnusable(
            f"The model {self._bundle.manifest.name} fails its self-test on this machine: its "
            "logits are not the ones that it was exported with."
        )


def self_test(bundle: Bundle, engine: Engine) -> str | None:
    """Return None when the logits are the expected ones, else by how much they differ."""
    manifest = bundle.manifest
    test = manifest.self_test
    images, positions_mm = self_test_series(manifest.preprocess)
    batches = (images.to(engine.device),)
    found, _ = read_series(engine.parts, batches, positions_mm, manifest)
    allowed = test.tolerance_reduced if engine.reduced else test.tolerance_full
    pairs = [(found.slices, np.asarray(test.expected))]
    if test.expected_series is not None:
        pairs.append((found.series, np.asarray(test.expected_series)))
    for logits, expected in pairs:
        if logits.shape != expected.shape:
            return f"{logits.shape} in place of {expected.shape}"
        greatest = float(np.abs(logits - expected).max())
        if not greatest <= allowed:
            return f"{greatest:.3g} above {allowed:g}"
    return None
