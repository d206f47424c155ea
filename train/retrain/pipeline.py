"""The whole road of a candidate, from the node's export to a challenger or a refusal.

Nothing here touches the model that runs: the result is a bundle in the registry and the alias
``challenger``. Promotion is a person's.
"""

from __future__ import annotations

import dataclasses
import getpass
import hashlib
import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import structlog

from ichnode.nets.bundle import Bundle
from ichnode.nets.registry import Registry
from ichnode.spool import write_durable
from train.candidate import predict_with_bundle
from train.data.cache import Cache, build_cache, open_cache
from train.data.overlap import overlaps
from train.data.sources.site import SiteExport
from train.data.splits import SPLITS, open_key
from train.data.views import Slices, all_slices
from train.judge.metrics import auroc
from train.predictions import Predictions, read_predictions, write_predictions
from train.retrain import checks, gates
from train.retrain.judged import Judged
from train.retrain.learning import Learning, bundle_of, learn, timed
from train.retrain.ledger import NAME as LEDGER
from train.retrain.ledger import Ledger
from train.retrain.policy import Policy
from train.retrain.report import write_report
from train.retrain.snapshot import Snapshot, flipped, take_snapshot
from train.retrain.steps import Progress, Refused
from train.retrain.studies import Export, read_export

log = structlog.get_logger(__name__)
SPLIT_KEY = "split.key"
GATES = "gates.json"


@dataclass(frozen=True, slots=True)
class Asked:
    """What a retraining is asked to do.

    Attributes
    ----------
    export : Path
        The node's export.
    registry : Path
        The folder of bundles; the key of the splits and the ledger of the holdout lie there too.
    work : Path
        Where the work folders are.
    corrections : int
        Labels that somebody corrected on purpose since the last retraining.
    signed_by : str
        Who signs for the corrections.
    """

    export: Path
    registry: Path
    work: Path
    policy: Policy = field(default=Policy(), repr=False)
    learning: Learning = field(default=Learning(), repr=False)
    corrections: int = 0
    signed_by: str = ""
    device: str = "cpu"
    workers: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a retraining ended."""

    challenger: str  # its model UID, or "" where it was refused
    refusal: Refused | None
    report: Path


def retrain(asked: Asked) -> Outcome:
    """Go the whole road; called again with the same start it goes on where it was.

    Raises
    ------
    TrainingError
        When it cannot go on, for a reason that a person can mend. A refusal is no error.
    """
    export = read_export(asked.export)
    registry = Registry(asked.registry)
    champion = registry.find("champion")
    recipe = dataclasses.asdict(asked.learning)
    snapshot, folder = take_snapshot(asked.work, export, champion.model_uid, asked.policy, recipe)
    road = _Road(asked, export, registry, champion.folder, snapshot, folder)
    try:
        uid = road.go()
    except Refused as refusal:
        log.info("retrain.refused", stage=refusal.gate, reasons=list(refusal.sentences))
        return Outcome("", refusal, road.report("refused", refusal))
    return Outcome(uid, None, road.report("challenger"))


class _Road:
    """One retraining in its work folder; every method is a step."""

    def __init__(
        self,
        asked: Asked,
        export: Export,
        registry: Registry,
        champion: Path,
        snapshot: Snapshot,
        folder: Path,
    ) -> None:
        self._asked, self._export, self._registry = asked, export, registry
        self._champion, self._snapshot, self._folder = champion, snapshot, folder
        self._policy = snapshot.policy
        self._progress = Progress.open(folder)

    def go(self) -> str:
        """Do the steps that are not done, in order, and return the challenger's UID."""
        run = self._progress.run
        run("freeze", lambda: {"digest": self._snapshot.digest})
        run("validate", self._validate)
        run("split", self._split)
        run("cache", self._cache)
        run("train", self._train)
        run("calibrate", self._calibrate)
        run("evaluate", self._evaluate)
        run("gates", self._gates)
        return str(run("register", self._register)["model_uid"])

    # ------------------------------------------------------------------ data

    def _validate(self) -> dict[str, Any]:
        checks.check_labels(self._export.usable)
        coverage = checks.check_coverage(self._export, self._policy)
        flips, compared, earlier = flipped(self._asked.work, self._snapshot, self._export)
        signed = self._asked.corrections if self._asked.signed_by else 0
        checks.check_flips(flips, compared, self._policy, corrections=signed)
        return {
            "coverage": coverage,
            "labels": checks.count_labels(self._export.usable),
            "flips": {"flips": flips, "compared": compared, "earlier": earlier},
            "signed_by": self._asked.signed_by,
        }

    def _split(self) -> dict[str, Any]:
        key = open_key(self._asked.registry / SPLIT_KEY)
        counts, patients = checks.count_split(self._export.usable, key, self._policy)
        write_durable(self._folder / "splits.json", json.dumps(patients, indent=1).encode())
        self._note("counts", {name: [c.with_blood, c.without] for name, c in counts.items()})
        checks.check_counts(counts, self._policy)
        return {}

    def _cache(self) -> dict[str, Any]:
        spec = Bundle.load(self._champion).manifest.preprocess
        source = SiteExport(self._asked.export)
        cache = build_cache(self._folder / "cache", source, spec, workers=self._asked.workers)
        parts = self._slices()
        twice = overlaps(parts["train"], parts["holdout"])
        leak = gates.no_leak(set(), set(), len(twice))
        if leak.refuses:
            raise Refused(leak.id, [leak.sentence])
        return {"slices": len(cache.slices), "quarantined": len(cache.quarantine)}

    def _slices(self) -> dict[str, Slices]:
        cache: Cache = open_cache(self._folder / "cache")
        context = Bundle.load(self._champion).manifest.preprocess.context_slices
        whole = all_slices(cache, context)
        patients = json.loads((self._folder / "splits.json").read_text(encoding="utf-8"))
        return {name: whole.of_patients(set(patients[name])) for name in SPLITS}

    # ------------------------------------------------------------------ model

    def _train(self) -> dict[str, Any]:
        parts = self._slices()
        noted = learn(
            Bundle.load(self._champion),
            parts["train"],
            parts["selection"],
            self._folder / "run",
            self._asked.learning,
            self._asked.device,
        )
        patients = sorted(set(parts["train"].table["patient"]))
        write_durable(self._folder / "trained-on.json", json.dumps(patients).encode())
        return noted

    def _calibrate(self) -> dict[str, Any]:
        parts = self._slices()
        target = self._folder / "candidate"
        shutil.rmtree(target, ignore_errors=True)
        return bundle_of(
            Bundle.load(self._champion),
            self._folder / "run",
            parts,
            target,
            self._policy.target_sensitivity,
            version=f"site-{self._snapshot.digest[:8]}",
        )

    def _evaluate(self) -> dict[str, Any]:
        """Look at the locked holdout; the look is in the ledger before its result is used."""
        holdout = self._slices()["holdout"]
        digest = _digest_of(holdout)
        ledger = Ledger(self._asked.registry / LEDGER)
        candidate = Bundle.load(self._folder / "candidate")
        if ledger.uses(digest) >= self._policy.most_holdout_uses:
            raise Refused(
                "D5",
                [
                    f"These holdout patients were looked at {ledger.uses(digest)} times, which "
                    "uses them up: fresh labelled patients are needed."
                ],
            )
        champion = Bundle.load(self._champion)
        both = {"champion": champion, "candidate": candidate}
        found = {name: predict_with_bundle(one, holdout) for name, one in both.items()}
        ledger.look(
            holdout=digest,
            candidate=candidate.manifest.model_uid,
            champion=champion.manifest.model_uid,
            by=getpass.getuser(),
            figures={name: _any_auroc(one) for name, one in found.items()},
        )
        for name, one in found.items():
            write_predictions(self._folder / f"holdout-{name}.jsonl", one)
        again = predict_with_bundle(Bundle.load(self._folder / "candidate"), holdout)
        return {
            "difference": _difference(again, found["candidate"]),
            "seconds": timed(both, holdout),
            "looks": ledger.uses(digest),
        }

    def _gates(self) -> dict[str, Any]:
        noted = self._progress.done["evaluate"]["noted"]
        champion = self._judged("champion", self._champion, noted["seconds"]["champion"])
        candidate = self._judged(
            "candidate", self._folder / "candidate", noted["seconds"]["candidate"]
        )
        trained_on = set(json.loads((self._folder / "trained-on.json").read_text()))
        found = (
            gates.reproducible(noted["difference"]),
            gates.no_leak(trained_on, set(candidate.predictions.patients), 0),
            *gates.judge_candidate(champion, candidate, self._policy),
        )
        self._note("figures", _figures(champion, candidate))
        refusing = [gate for gate in found if gate.refuses]
        content = {
            "passed": not refusing,
            "model_uid": candidate.model_uid,
            "champion_uid": champion.model_uid,
            "gates": [dataclasses.asdict(gate) for gate in found],
        }
        write_durable(self._folder / GATES, (json.dumps(content, indent=1) + "\n").encode())
        if refusing:
            raise Refused(refusing[0].id, [f"{g.id} {g.name}: {g.sentence}" for g in refusing])
        return {}

    def _judged(self, name: str, folder: Path, seconds: float) -> Judged:
        manifest = Bundle.load(folder).manifest
        return Judged(
            model_uid=manifest.model_uid,
            predictions=read_predictions(self._folder / f"holdout-{name}.jsonl"),
            calibration=manifest.calibration,
            thresholds=manifest.thresholds,
            seconds=seconds,
        )

    def _register(self) -> dict[str, Any]:
        folder = self._folder / "candidate"
        shutil.copy(self._folder / GATES, folder / GATES)
        uid = self._registry.install(folder)
        self._registry.challenge(uid)
        return {"model_uid": uid}

    # ------------------------------------------------------------------ telling

    def _note(self, name: str, content: Any) -> None:
        """Keep what the report shows even where the step refuses."""
        write_durable(
            self._folder / f"noted-{name}.json", (json.dumps(content, indent=1) + "\n").encode()
        )

    def report(self, outcome: str, refusal: Refused | None = None) -> Path:
        """Write the report of what was reached."""
        done = {name: step["noted"] for name, step in self._progress.done.items()}
        validated = done.get("validate", {})
        found = self._kept(GATES) or {}
        return write_report(
            self._folder,
            {
                "outcome": outcome,
                "refusal": refusal and {"gate": refusal.gate, "sentences": list(refusal.sentences)},
                "snapshot": dataclasses.asdict(self._snapshot),
                "simulated": self._export.simulated,
                "candidate_uid": found.get("model_uid", ""),
                "coverage": validated.get("coverage"),
                "labels": validated.get("labels"),
                "counts": self._kept("noted-counts.json"),
                "training": done.get("train"),
                "calibration": done.get("calibrate"),
                "figures": self._kept("noted-figures.json"),
                "looks": done.get("evaluate", {}).get("looks", 0),
                "most_looks": self._policy.most_holdout_uses,
                "gates": found.get("gates"),
            },
        )

    def _kept(self, name: str) -> Any:
        path = self._folder / name
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _digest_of(slices: Slices) -> str:
    """Return a digest of the patients and labels of the holdout."""
    table = slices.table.drop_duplicates("series_number").sort_values("series")
    lines = table[["patient", "series", "series_any"]].astype(str).agg(" ".join, axis=1)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _any_auroc(predictions: Predictions) -> float:
    return auroc(predictions.series_logits[:, 0], predictions.series_truth[:, 0])


def _difference(a: Predictions, b: Predictions) -> float:
    return float(np.abs(a.series_logits - b.series_logits).max())


def _figures(champion: Judged, candidate: Judged) -> dict[str, list[str]]:
    """Return what the report shows of both, as text."""
    return {
        name: [f"{measure(champion):.3f}", f"{measure(candidate):.3f}"]
        for name, measure in (
            ("AUROC of any haemorrhage, series", lambda j: _any_auroc(j.predictions)),
            ("Sensitivity, called urgent", _sensitivity),
            ("Specificity, not called urgent", _specificity),
            ("Called urgent, of all", lambda j: float(j.urgent.mean())),
        )
    }


def _sensitivity(one: Judged) -> float:
    return float(one.urgent[one.predictions.series_truth[:, 0] == 1].mean())


def _specificity(one: Judged) -> float:
    return float((~one.urgent[one.predictions.series_truth[:, 0] == 0]).mean())
