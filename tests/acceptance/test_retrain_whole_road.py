"""A truly better candidate: learnt from a site's labels, through every gate, promoted, taken back.

The site is made up (noise with bright spots), so that a network learns in a minute; the road is the
one that people's labels and scans take.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from ichnode.domain.findings import LABELS
from ichnode.nets.bundle import Bundle
from ichnode.nets.registry import Registry
from tests.made_up_site import SPEC, read_list, write_list, write_site
from train.candidate import Trained, TrainedNetwork, as_stored, trained_on, write_candidate
from train.context.weak import fit_weak
from train.context.weak_recipe import WeakRecipe
from train.data.cache import build_cache
from train.data.sources.site import SiteExport
from train.data.views import all_slices
from train.judge.chosen import choose_all
from train.learn.predicting import predict
from train.learn.recipe import Recipe

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
STUDIES, CHAMPIONS_STUDIES = 1500, 420
KEY = "5a" * 32  # of the splits: chance would part the patients anew in every run
RULE = "log_sum_exp"


def write_champion(folder: Path) -> Path:
    """Train a model on few studies: it runs at the site, and there is room above it."""
    recipe = Recipe(
        architecture="resnet18_local",
        size_px=SPEC.size_px,
        windows_hu=SPEC.windows_hu,
        augment="none",
        epochs=6,
        batch=96,
        peak_rate=1e-3,
        averaging=0.9,
        reestimate_batches=0,
    ).like(SPEC)
    export = write_site(folder / "early", range(100_000, 100_000 + CHAMPIONS_STUDIES))
    cache = build_cache(folder / "early-cache", SiteExport(export), SPEC, workers=1)
    slices = all_slices(cache, SPEC.context_slices)
    patients = sorted(set(slices.table["patient"]))
    train, watch, rest = (
        slices.of_patients(set(part))
        for part in (patients[:240], patients[240:280], patients[280:])
    )
    weak = WeakRecipe(series=8)
    fitted = fit_weak(recipe, weak, train, watch, folder / "early-run", device="cpu", quiet=True)
    stored = as_stored(fitted)
    chosen = choose_all(predict(stored, rest, recipe.preprocess(), rule=RULE), RULE)
    bundle = folder / "champion"
    write_candidate(
        Trained(
            name="early",
            version="1",
            networks={"joint": TrainedNetwork(recipe.architecture, LABELS, stored)},
            spec=recipe.preprocess(),
            calibration=chosen.calibration,
            thresholds=chosen.thresholds,
            recipe=recipe.to_json(),
            data=trained_on(train),
        ),
        bundle,
    )
    return bundle


def command(folder: Path) -> list[str]:
    where = ["--export", folder / "export", "--registry", folder / "models"]
    how = [
        "--work",
        folder / "work",
        "--full",
        "--epochs",
        "6",
        "--device",
        "cpu",
        "--workers",
        "1",
    ]
    return [sys.executable, "-m", "train", "retrain", *map(str, (*where, *how))]


def retrain(folder: Path) -> tuple[int, str]:
    done = subprocess.run(
        command(folder), capture_output=True, text=True, timeout=600, env=environment(), check=False
    )
    return done.returncode, done.stdout + done.stderr


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def kill_in_training(folder: Path) -> None:
    """Kill a retraining as soon as its training has a checkpoint."""
    running = subprocess.Popen(
        command(folder),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment(),
        start_new_session=True,
    )
    deadline = time.monotonic() + 400
    while not list((folder / "work").glob("*/run/checkpoint.pt")):
        assert running.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        try:
            running.wait(0.1)
        except subprocess.TimeoutExpired:
            continue
    os.killpg(running.pid, signal.SIGKILL)
    running.wait(30)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site with a champion and labelled studies, whose retraining was killed and went on."""
    folder = tmp_path_factory.mktemp("site")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    registry = Registry(folder / "models")
    registry.promote(registry.install(write_champion(folder)))
    (folder / "models" / "split.key").write_text(f"{KEY}\n")
    torch.set_num_threads(before)
    write_site(folder / "export", range(STUDIES))
    kill_in_training(folder)
    code, said = retrain(folder)
    assert code == 0, said
    return folder


def work_of(folder: Path) -> Path:
    (work,) = (path.parent for path in (folder / "work").glob("*/snapshot.json"))
    return work


def test_it_passes_every_gate_and_becomes_challenger(site: Path) -> None:
    """No gate refuses, something improved beyond chance, and the champion runs on."""
    gates = json.loads((work_of(site) / "gates.json").read_text())
    assert gates["passed"]
    passed = {gate["id"] for gate in gates["gates"] if gate["passed"]}
    assert {"G0", "L1", "G1", "G2", "G2b", "G3", "G4", "G6", "G7", "G8"} <= passed
    registry = Registry(site / "models")
    assert registry.find("champion").manifest.name == "early"
    challenger = registry.find("challenger")
    assert challenger.model_uid == gates["model_uid"]
    assert json.loads((challenger.folder / "gates.json").read_text())["passed"]


def test_the_report_tells_it_to_a_person(site: Path) -> None:
    """Outcome, counts, gates and rules on one page, without a figure that is not in the JSON."""
    page = (work_of(site) / "retrain-report.html").read_text()
    report = json.loads((work_of(site) / "retrain-report.json").read_text())
    assert report["outcome"] == "challenger"
    assert "Registered as challenger" in page
    for gate in report["gates"]:
        assert gate["id"] in page
    for row in report["figures"].values():
        assert all(value in page for value in row)


def test_the_look_at_the_holdout_is_in_the_ledger_once(site: Path) -> None:
    """Killed and run again, it looked once."""
    lines = (site / "models" / "holdout-ledger.jsonl").read_text().splitlines()
    assert len(lines) == 1
    assert (
        json.loads(lines[0])["candidate"] == Registry(site / "models").find("challenger").model_uid
    )


def test_the_bundle_says_whom_it_learnt_from(site: Path) -> None:
    """The site's own data, from the champion on."""
    manifest = Bundle.load(Registry(site / "models").find("challenger").folder).manifest
    assert "site (" in manifest.provenance.data
    assert "started from early 1" in manifest.provenance.data


def test_a_person_promotes_it_and_takes_it_back(site: Path, tmp_path: Path) -> None:
    """The aliases go over in one step each, and the early model runs again."""
    models = tmp_path / "models"
    shutil.copytree(site / "models", models)
    registry = Registry(models)
    early, better = (registry.find(name).model_uid for name in ("champion", "challenger"))
    registry.promote(better, by="a physicist", reason="passed every gate")
    assert registry.find("champion").model_uid == better
    registry.rollback(by="a physicist", reason="to show that it can be done")
    assert registry.find("champion").model_uid == early


def test_the_same_start_gives_the_same_outcome_without_work(site: Path) -> None:
    """Nothing is trained again."""
    weights = work_of(site) / "run" / "network.safetensors"
    before = weights.stat().st_mtime_ns
    code, said = retrain(site)
    assert code == 0, said
    assert weights.stat().st_mtime_ns == before


def test_labels_that_turned_over_are_refused_before_anything_is_learnt(
    site: Path, tmp_path: Path
) -> None:
    """A tenth of the studies lost their haemorrhage, or gained one, since the last time."""
    studies = read_list(site / "export")
    for study in studies[::10]:
        there = study["labels"]["any"]
        study["labels"] = dict.fromkeys(LABELS, 0) | ({} if there else {"any": 1, LABELS[1]: 1})
    poisoned = tmp_path / "poisoned"
    shutil.copytree(site, poisoned)
    write_list(poisoned / "export", studies)
    code, said = retrain(poisoned)
    assert code == 3, said
    assert "Refused by D4" in said


def test_the_same_scan_under_two_names_is_refused_as_a_leak(site: Path, tmp_path: Path) -> None:
    """Every scan is there twice, as of another patient: some pairs lie on both sides."""
    leaking = tmp_path / "leaking"
    (leaking / "export").mkdir(parents=True)
    (leaking / "export" / "series").symlink_to(site / "export" / "series")
    shutil.copytree(site / "models", leaking / "models")
    studies = read_list(site / "export")[:900]
    twice = [
        study
        | {"study": f"x{study['study']}", "patient": f"x{study['patient']}"}
        | {"series": study["series"] | {"key": f"x{study['series']['key']}"}}
        for study in studies
    ]
    write_list(leaking / "export", [*studies, *twice])
    code, said = retrain(leaking)
    assert code == 3, said
    assert "Refused by L1" in said
