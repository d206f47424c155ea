"""Where the arms of an ablation are made, all by the same settings.

A folder each::

    run                 the training
    bundle              its bundle, with the ledger of what it was measured on
    predictions.jsonl   what it says of the simulated holdout
    measured.json       what it says of the real slices, as `python -m train measure` has it
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from ichnode.domain.findings import LABELS
from ichnode.nets.architectures import SliceNetwork
from ichnode.nets.manifest import FILE as MANIFEST
from ichnode.nets.manifest import Calibration, Thresholds
from ichnode.spool import write_durable
from train.ablation.arms import ARMS, FULL, Arm
from train.ablation.settings import WATCHED_EVERY, Settings
from train.candidate import Trained, TrainedNetwork, trained_on, write_candidate
from train.carryover import measuring
from train.carryover.folders import Held
from train.carryover.pictures import Picturing
from train.carryover.reading import Reader
from train.data.cache import Cache, build_cache
from train.data.views import Slices, all_slices
from train.errors import TrainingError
from train.learn.loop import Conditions, fit
from train.learn.precision import choose_device
from train.learn.recipe import Recipe
from train.learn.run_folder import open_run
from train.measuring import PREDICTIONS, load_bundle, predict_bundle
from train.predictions import write_predictions

ARMS_IN, CACHES_IN = "arms", "caches"
_TIMED_MINUTES = 1 / 3
_ONE, _NONE, _HALF = (tuple(value for _ in LABELS) for value in (1.0, 0.0, 0.5))
_ORDER_ALONE = "Not at all: an ablation asks for the order of the scores alone."


@dataclasses.dataclass(frozen=True, slots=True)
class RealSlices:
    """Real slices to measure on, and what is assumed of their pictures."""

    held: Held
    assumed: Picturing


class Bench:
    """Makes arms; what is there of one already is left as it is.

    Parameters
    ----------
    out : Path
        The folder of the ablation.
    """

    def __init__(self, settings: Settings, out: Path) -> None:
        self._settings, self._out = settings, out
        self._device = choose_device(settings.device)
        self._holdout: Slices | None = None

    @property
    def steps(self) -> int:
        """How many steps each training has; 0 as long as nobody knows."""
        if self._settings.steps:
            return self._settings.steps
        path = self._out / "steps.json"
        return int(json.loads(path.read_text(encoding="utf-8"))["steps"]) if path.is_file() else 0

    def learn(self, arm: Arm) -> None:
        """Train the network of an arm and write its bundle."""
        folder = self._folder(arm)
        if (folder / "bundle" / MANIFEST).is_file():
            return
        cache = self._cache(arm)
        if not self.steps:
            self._time(arm, cache)
        recipe = arm.recipe(self._settings.recipe(self.steps))
        train, watch = _parts(cache, recipe)
        conditions = Conditions(device=self._settings.device)
        network = fit(recipe, train, watch, folder / "run", conditions=conditions)
        write_candidate(_trained(arm, recipe, network, train), folder / "bundle")

    def read_simulated(self, arm: Arm) -> None:
        """Let an arm's network read the holdout, which the whole simulator made."""
        path = self._folder(arm) / PREDICTIONS
        if path.is_file():
            return
        bundle = load_bundle(self._folder(arm) / "bundle")
        if self._holdout is None:
            cache = self._built("holdout", FULL, self._settings.holdout_seeds)
            self._holdout = all_slices(cache, bundle.manifest.preprocess.context_slices)
        write_predictions(path, predict_bundle(bundle, self._holdout, self._device))

    def read_real(self, arm: Arm, real: RealSlices) -> None:
        """Measure an arm's bundle on real slices, once; the use goes into its ledger."""
        folder = self._folder(arm)
        if (folder / measuring.FIGURES).is_file():
            return
        reader = Reader(load_bundle(folder / "bundle"), self._device)
        found, _ = measuring.measure("slices", real.held, reader, real.assumed)
        print(f"{arm.name}: {measuring.log_use(folder / 'bundle', found)}", flush=True)
        measuring.keep(folder, found, None)

    def check_real(self, real: RealSlices) -> None:
        """Refuse real slices that are not those of the arms that are done.

        Raises
        ------
        TrainingError
            When an arm was measured on others, or by other assumptions.
        """
        measuring.check_out(real.held.folder, self._out)
        digest = real.held.digest()
        wanted = measuring.assumptions("slices", real.held, real.assumed).get("png")
        for arm in ARMS:
            path = self._folder(arm) / measuring.FIGURES
            found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
            if found and (found["data"]["digest"], found["how"].get("png")) != (digest, wanted):
                raise TrainingError(
                    f"{arm.name} was measured on other slices, or by other assumptions of them; "
                    "give another --out."
                )

    def _folder(self, arm: Arm) -> Path:
        return self._out / ARMS_IN / arm.name

    def _cache(self, arm: Arm) -> Cache:
        return self._built(arm.cache, arm, self._settings.seeds)

    def _built(self, name: str, arm: Arm, seeds: range) -> Cache:
        ours = self._settings
        source = arm.source(seeds, ours.template, ours.scan_px)
        return build_cache(self._out / CACHES_IN / name, source, ours.spec(), workers=ours.workers)

    def _time(self, arm: Arm, cache: Cache) -> None:
        """Find out how many steps fit into the minutes, and hold to it ever after."""
        timed = dataclasses.replace(
            self._settings.recipe(0),
            epochs=10_000,
            minutes=min(_TIMED_MINUTES, self._settings.minutes),
            averaging=0.0,
            reestimate_batches=0,
        )
        train, watch = _parts(cache, arm.recipe(timed))
        run = self._out / "timed" / arm.name
        fit(timed, train, watch, run, conditions=Conditions(device=self._settings.device))
        result = open_run(run).result
        steps = max(round(60 * self._settings.minutes * result["steps"] / result["seconds"]), 1)
        content = {"steps": steps, "minutes": self._settings.minutes, "device": result["device"]}
        write_durable(self._out / "steps.json", (json.dumps(content) + "\n").encode())


def _parts(cache: Cache, recipe: Recipe) -> tuple[Slices, Slices]:
    """Return what is learnt from and what is watched: one series in `WATCHED_EVERY`."""
    slices = all_slices(cache, recipe.context_slices)
    patients = cache.slices["patient"].unique()
    watched = set(patients[::WATCHED_EVERY])
    return slices.of_patients(set(patients) - watched), slices.of_patients(watched)


def _trained(arm: Arm, recipe: Recipe, network: SliceNetwork, train: Slices) -> Trained:
    return Trained(
        name=f"ablation-{arm.name}",
        version="1",
        networks={"joint": TrainedNetwork(recipe.architecture, LABELS, network)},
        spec=recipe.preprocess(),
        calibration=Calibration(_ONE, _NONE, _ONE, _NONE, "adjacent_mean", _ORDER_ALONE),
        thresholds=Thresholds(_HALF, 0.5, _ORDER_ALONE),
        recipe=recipe.to_json(),
        data=trained_on(train),
    )
