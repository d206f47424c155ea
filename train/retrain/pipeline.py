"""The whole road of a candidate, from the node's export to a challenger or a refusal.

Nothing here touches the model that runs: the result is a bundle in the registry and the alias
``challenger``. Promotion is a person's.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import getpass
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from ichnode.nets.bundle import Bundle
from ichnode.nets.registry import Registry
from ichnode.spool import write_durable
from train.candidate import predict_with_bundle
from train.data.cache import Cache, build_cache, open_cache
from train.data.overlap import overlaps
from train.data.sources.site import SiteExport
from train.data.splits import SPLITS, keep_shares, open_key
from train.data.views import Slices, all_slices
from train.errors import TrainingError
from train.predictions import read_predictions, write_predictions
from train.retrain import checks, gates
from train.retrain.figures import any_auroc, difference, digest_of, figures_of
from train.retrain.judged import Judged
from train.retrain.learning import Learning, bundle_of, check_champion, learn, timed
from train.retrain.ledger import NAME as LEDGER
from train.retrain.ledger import Ledger
from train.retrain.policy import Policy
from train.retrain.report import write_report
from train.retrain.snapshot import Snapshot, flipped, take_snapshot
from train.retrain.steps import Progress, Refused
from train.retrain.studies import Export, ExportedStudy, read_export

log = structlog.get_logger(__name__)
SPLIT_KEY, SPLIT_SHARES = "split.key", "split-shares.json"
CACHE = "cache"
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
    with _alone(asked.work):
        return _retrain(asked)


@contextlib.contextmanager
def _alone(work: Path) -> Iterator[None]:
    work.mkdir(parents=True, exist_ok=True)
    with (work / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TrainingError(f"Another retraining works in {work}; wait for its end.") from None
        yield


def _retrain(asked: Asked) -> Outcome:
    export = read_export(asked.export)
    registry = Registry(asked.registry)
    champion = registry.find("champion")
    check_champion(champion.manifest)
    recipe = dataclasses.asdict(asked.learning)
    snapshot, folder = take_snapshot(asked.work, export, champion.model_uid, asked.policy, recipe)
    road = _Road(asked, export, registry, champion.folder, snapshot, folder)
    try:
        uid = road.go()
    except Refused as refusal:
        log.info("retrain.refused", stage=refusal.gate, reasons=list(refusal.sentences))
        outcome = Outcome("", refusal, road.report("refused", refusal))
    else:
        outcome = Outcome(uid, None, road.report("challenger"))
    shutil.rmtree(folder / CACHE, ignore_errors=True)  # gigabytes; the export has the pixels
    return outcome


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
        keep_shares(self._asked.registry / SPLIT_SHARES, self._policy.shares)
        write_durable(
            self._folder / "splits.json",
            json.dumps(self._check_counts(self._export.usable, key), indent=1).encode(),
        )
        return {}

    def _check_counts(self, studies: Sequence[ExportedStudy], key: bytes) -> dict[str, list[str]]:
        """Note and check how many studies each split has; return the patients of each."""
        counts, patients = checks.count_split(studies, key, self._policy)
        self._note("counts", {name: [c.with_blood, c.without] for name, c in counts.items()})
        checks.check_counts(counts, self._policy)
        return patients

    def _cache(self) -> dict[str, Any]:
        spec = Bundle.load(self._champion).manifest.preprocess
        source = SiteExport(self._asked.export)
        cache = build_cache(self._folder / CACHE, source, spec, workers=self._asked.workers)
        read = set(cache.slices["study"])
        key = open_key(self._asked.registry / SPLIT_KEY)
        self._check_counts([one for one in self._export.usable if one.study in read], key)
        parts = self._slices()
        holdout = parts.pop("holdout")
        twice = sum(len(overlaps(part, holdout)) for part in parts.values())
        leak = gates.no_leak(set(), set(), twice)
        if leak.refuses:
            raise Refused(leak.id, [leak.sentence])
        return {"slices": len(cache.slices), "quarantined": len(cache.quarantine)}

    def _slices(self) -> dict[str, Slices]:
        cache: Cache = open_cache(self._folder / CACHE)
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
        digest = digest_of(holdout)
        patients = set(holdout.table["patient"])
        ledger = Ledger(self._asked.registry / LEDGER)
        candidate = Bundle.load(self._folder / "candidate")
        looks = ledger.uses(digest, patients, besides=candidate.manifest.model_uid)
        if looks >= self._policy.most_holdout_uses:
            raise Refused(
                "D5",
                [
                    f"These holdout patients, or half of them, were looked at {looks} times, which "
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
            by=_account(),
            figures={name: any_auroc(one) for name, one in found.items()},
            patients=patients,
        )
        for name, one in found.items():
            write_predictions(self._folder / f"holdout-{name}.jsonl", one)
        again = predict_with_bundle(Bundle.load(self._folder / "candidate"), holdout)
        return {
            "difference": difference(again, found["candidate"]),
            "seconds": timed(both, holdout),
            "looks": looks + 1,
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
        self._note("figures", figures_of(champion, candidate))
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
        if self._registry.find("champion").model_uid != self._snapshot.champion_uid:
            raise TrainingError(
                "Another model became champion while this candidate was made, so that it was "
                "compared with the wrong one; start the retraining again."
            )
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


def _account() -> str:
    """Return the account that runs this; its number where it has no name, as in a container."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return f"uid {os.getuid()}"
