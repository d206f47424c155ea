"""Training in processes of its own: killed and started again, and several that learn together."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.learning_kit import SPEC, Squares, write_split_key
from tests.learning_together import RECIPES
from train.data.cache import build_cache
from train.learn.checkpoint import new_learning
from train.learn.distributed import Team
from train.learn.journal import rows
from train.learn.run_folder import open_run

ROOT = Path(__file__).parents[2]
ALONE = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
PATIENCE_S = 100.0
TWO = (
    "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-addr", "127.0.0.1",
    "--master-port", "0", "--local-addr", "127.0.0.1", "--rdzv-backend", "c10d",
    "--rdzv-endpoint", "127.0.0.1:0",
)  # fmt: skip
"""Starts two processes of what follows."""


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=ALONE, text=True, capture_output=True, check=False
    )


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small series on disk, and the key that parts their patients."""
    folder = tmp_path_factory.mktemp("cache")
    write_split_key(folder)
    build_cache(folder / "cache", Squares(24), SPEC, workers=1)
    return folder / "cache"


def fit_command(cache: Path, out: Path, *more: str) -> list[str]:
    options = "--sampling balanced --epochs 1 --batch 6 --precision float32 --device cpu"
    where = ["--cache", str(cache), "--out", str(out), "--cleaning", "none"]
    return ["-m", "train", "fit", *where, *options.split(), *more]


@pytest.mark.slow
def test_a_killed_run_goes_on_and_ends_with_the_same_weights(cache: Path, tmp_path: Path) -> None:
    """After kill -9 behind a checkpoint, the same command finishes as if nothing had happened."""
    undisturbed = run(*fit_command(cache, tmp_path / "whole"))
    assert undisturbed.returncode == 0, undisturbed.stderr
    command = fit_command(cache, tmp_path / "killed", "--save-every", "0")
    victim = subprocess.Popen(
        [sys.executable, *command], cwd=ROOT, env=ALONE, stdout=subprocess.DEVNULL
    )
    pause, deadline = threading.Event(), time.monotonic() + PATIENCE_S
    while not (tmp_path / "killed" / "checkpoint.pt").exists() and victim.poll() is None:
        assert time.monotonic() < deadline
        pause.wait(0.05)
    victim.kill()
    assert victim.wait() == -9
    resumed = run(*fit_command(cache, tmp_path / "killed"))
    assert resumed.returncode == 0, resumed.stderr
    assert "run.resumed" in resumed.stderr
    assert "Not for clinical use" in resumed.stdout
    weights = [open_run(tmp_path / name).network.state_dict() for name in ("whole", "killed")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.slow
def test_what_the_user_can_mend_is_one_sentence(cache: Path, tmp_path: Path) -> None:
    """A batch that cannot be filled, and no cache at all: exit code 1, no traceback."""
    large = run(*fit_command(cache, tmp_path / "run", "--batch", "4096"))
    absent = run(*fit_command(tmp_path / "nowhere", tmp_path / "run"))
    for ended, sentence in ((large, "do not fill a batch of 4096"), (absent, "no cache in")):
        assert ended.returncode == 1
        assert sentence in ended.stderr
        assert "Traceback" not in ended.stderr


@pytest.mark.slow
def test_processes_look_and_save_together_whatever_their_clocks_say(tmp_path: Path) -> None:
    """One that began later is not due when the other is; one alone would wait for ever."""
    pair = run(*TWO, "-m", "tests.learning_together", str(tmp_path), "late")
    assert pair.returncode == 0, pair.stderr
    looks = [row["step"] for row in rows(tmp_path / "run") if row["watch_loss"] >= 0]
    assert looks
    assert open_run(tmp_path / "run").result["processes"] == 2


@pytest.mark.slow
@pytest.mark.parametrize(("name", "last"), [("plain", "head.1.weight"), ("masks", "draw.weight")])
def test_two_processes_learn_what_one_would(tmp_path: Path, name: str, last: str) -> None:
    """Both end with the same weights, those of one process that saw the whole batches.

    Batch normalisation keeps its statistics here and nothing is disturbed: with statistics of half
    a batch, or other random numbers, two processes are rightly not the same as one.
    """
    script = ["-m", "tests.learning_together", str(tmp_path), name]
    pair = run(*TWO, *script)
    assert pair.returncode == 0, pair.stderr
    alone = run(*script)
    assert alone.returncode == 0, alone.stderr
    files = ("0-of-2", "1-of-2", "0-of-1")
    first, second, single = (load_file(tmp_path / f"{file}.safetensors") for file in files)
    assert set(first) == set(single)
    for key, tensor in first.items():
        assert torch.equal(tensor, second[key])
        torch.testing.assert_close(tensor, single[key], atol=2e-4, rtol=1e-3)
    start = new_learning(RECIPES[name], Team(0, 1, torch.device("cpu")), None).network.state_dict()
    moved = (start[last] - first[last]).abs().max()
    assert float(moved) > 1e-3
