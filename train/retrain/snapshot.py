"""Freeze what a retraining starts from: the list of studies, the champion, the rules.

The work folder is named by the digest of all of it. The same start is the same run, which goes on;
another label, another champion or another rule is another run.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

from ichnode.domain.findings import LABELS
from ichnode.nets.manifest import canonical
from ichnode.spool import write_durable
from train.errors import TrainingError
from train.retrain.policy import Policy
from train.retrain.studies import Export, ExportedStudy


@dataclasses.dataclass(frozen=True, slots=True)
class Snapshot:
    """What was frozen."""

    digest: str
    champion_uid: str
    policy: Policy
    recipe: dict[str, Any]
    studies: int


def take_snapshot(
    work: Path, export: Export, champion_uid: str, policy: Policy, recipe: dict[str, Any]
) -> tuple[Snapshot, Path]:
    """Return the snapshot and its work folder, made where it is not there.

    Parameters
    ----------
    work : Path
        Where the work folders of all retrainings are.
    recipe : dict
        How the candidate is trained; part of what is frozen.
    """
    lines = sorted(json.dumps(_frozen(one), sort_keys=True) for one in export.usable)
    unlabelled = sorted(f"{one.study} {one.flagged} {one.reason}" for one in export.studies)
    start = [champion_uid, canonical(policy), json.dumps(recipe, sort_keys=True)]
    text = "\n".join([*start, *lines, *unlabelled])
    digest = hashlib.sha256(text.encode()).hexdigest()
    snapshot = Snapshot(digest, champion_uid, policy, recipe, len(export.studies))
    folder = work / digest[:12]
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / "snapshot.json"
    if not kept.is_file():
        _write(kept, dataclasses.asdict(snapshot) | {"labels": _labels(export)})
    elif json.loads(kept.read_text(encoding="utf-8"))["digest"] != digest:
        raise TrainingError(f"{folder} holds another snapshot; remove it.")
    return snapshot, folder


def _frozen(study: ExportedStudy) -> dict[str, Any]:
    key = study.series["key"] if study.series else ""
    return {
        "study": study.study,
        "patient": study.patient,
        "labels": study.labels,
        "source": study.label_source,
        "series": key,
    }


def _labels(export: Export) -> dict[str, list[float | None]]:
    """Return the labels by study, for the next snapshot to compare with."""
    return {one.study: list(one.labels) for one in export.usable}


def flipped(work: Path, snapshot: Snapshot, export: Export) -> tuple[int, int, str]:
    """Compare the labels with those of the newest earlier snapshot that reached its end.

    Returns
    -------
    flips, compared : int
        Labels that turned over, and labels that stood in both.
    earlier : str
        The digest that was compared with; "" for none.
    """
    finished = [
        path
        for path in work.glob("*/snapshot.json")
        if path.parent.name != snapshot.digest[:12] and (path.parent / "gates.json").is_file()
    ]
    if not finished:
        return 0, 0, ""
    newest = max(finished, key=lambda path: (path.parent / "gates.json").stat().st_mtime_ns)
    earlier = json.loads(newest.read_text(encoding="utf-8"))
    flips = compared = 0
    for study, labels in _labels(export).items():
        for before, now in zip(
            earlier["labels"].get(study, [None] * len(LABELS)), labels, strict=True
        ):
            if before is not None and now is not None:
                compared += 1
                flips += before != now
    return flips, compared, str(earlier["digest"])


def _write(path: Path, content: dict[str, Any]) -> None:
    write_durable(path, (json.dumps(content, indent=1, sort_keys=True) + "\n").encode())
