"""The steps of a retraining, each done once: after kill -9 the same command goes on at the next.

``state.json`` names the steps that are done. A step writes its outputs first, under their final
names only when whole, and is named last. A refusal is a normal outcome and is kept likewise.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog

from ichnode.spool import write_durable
from train.errors import TrainingError

log = structlog.get_logger(__name__)

STEPS = (
    "freeze",
    "validate",
    "split",
    "cache",
    "train",
    "calibrate",
    "evaluate",
    "gates",
    "register",
)
"""In this order; collecting comes before, on the node, shadow and promotion after."""
ASKED_AGAIN = ("validate",)
"""Steps whose refusal is looked at anew each time: somebody may have signed corrections since."""


class Refused(TrainingError):
    """The candidate, or the data for one, does not fulfil the policy: a normal outcome.

    Parameters
    ----------
    gate : str
        Which rule refuses, as in `train.retrain.gates`.
    sentences : sequence of str
        Why, and what would be needed; without patient data.
    """

    def __init__(self, gate: str, sentences: Sequence[str]) -> None:
        super().__init__(" ".join(sentences))
        self.gate = gate
        self.sentences = tuple(sentences)


@dataclass(slots=True)
class Progress:
    """How far a retraining is; what ``state.json`` holds."""

    folder: Path
    done: dict[str, dict[str, Any]] = field(default_factory=dict)
    refused: dict[str, Any] | None = None

    @classmethod
    def open(cls, folder: Path) -> Progress:
        """Read the state of a work folder; an empty one is at the start."""
        path = folder / "state.json"
        if not path.is_file():
            return cls(folder)
        content = json.loads(path.read_text(encoding="utf-8"))
        return cls(folder, content["done"], content["refused"])

    def run(self, step: str, action: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Do a step unless it is done, and return what it noted.

        Raises
        ------
        Refused
            When the step refuses; asked again, it refuses again without doing the work again,
            those of `ASKED_AGAIN` excepted.
        """
        if step not in STEPS:
            raise ValueError(f"{step} is no step")
        if step in self.done:
            return self.done[step]["noted"]  # type: ignore[no-any-return]
        if self.refused is not None and self.refused["step"] not in ASKED_AGAIN:
            raise Refused(self.refused["gate"], self.refused["sentences"])
        log.info("step.began", stage=step)
        try:
            noted = action()
        except Refused as refusal:
            self.refused = {
                "step": step,
                "gate": refusal.gate,
                "sentences": list(refusal.sentences),
                "at": _now(),
            }
            self._save()
            raise
        self.done[step], self.refused = {"at": _now(), "noted": noted}, None
        self._save()
        log.info("step.done", stage=step)
        return noted

    def _save(self) -> None:
        content = {"done": self.done, "refused": self.refused}
        write_durable(self.folder / "state.json", (json.dumps(content, indent=1) + "\n").encode())


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
