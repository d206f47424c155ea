"""The folder of a training run: what was asked, from what, how it went, and what came of it.

::

    recipe.json           the Recipe, one text
    data.json             what it learnt from: datasets, counts, a digest of the rows
    split.json            how patients were parted, so that a later step parts them alike
    start.json            whose weights it started from, and their terms
    environment.json      versions and devices, one entry for each time it was started
    metrics.csv           a line every few steps, and one with figures at the end of an epoch
    plots/                loss, AUROC and learning rate
    checkpoint.pt         from where it goes on
    best.safetensors      the weights that looked best on the way
    result.json           which weights were kept and why; written last
    network.safetensors   the network
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

import ichnode
from ichnode.domain.findings import Label
from ichnode.nets.architectures import SliceNetwork, build
from ichnode.nets.manifest import PreprocessSpec
from ichnode.nets.pretrained import InitialWeights
from ichnode.spool import write_durable
from train.data.splits import SHARES, open_key
from train.data.views import Slices
from train.errors import TrainingError
from train.learn.recipe import Recipe, read_recipe

CHECKPOINT = "checkpoint.pt"
METRICS = "metrics.csv"
WEIGHTS = "network.safetensors"
BEST = "best.safetensors"


@dataclass(frozen=True, slots=True)
class SplitKey:
    """How patients were parted; see `train.data.splits`. A site's key stays where the site has it.

    Attributes
    ----------
    file : str
        Where the key is.
    digest : str
        The key's sha256, to know it again.
    """

    file: str
    digest: str
    shares: tuple[float, ...]

    def key(self, elsewhere: Path | None = None) -> bytes:
        """Read the key.

        Raises
        ------
        TrainingError
            When it is not there or is another one.
        """
        path = elsewhere or Path(self.file)
        if not path.is_file():
            raise TrainingError(f"The key that parted the patients is not in {path}; give --key.")
        key = open_key(path)
        if hashlib.sha256(key).hexdigest() != self.digest:
            raise TrainingError(
                f"{path} is another key than the run was made with: patients would move from what "
                "it learnt to what it is measured on."
            )
        return key


def split_key(file: Path, shares: tuple[float, ...] = SHARES) -> SplitKey:
    """Return a reference to a key file, which is made where there is none."""
    key = open_key(file)
    return SplitKey(str(file.resolve()), hashlib.sha256(key).hexdigest(), shares)


@dataclass(frozen=True, slots=True)
class OpenedRun:
    """A finished run.

    Attributes
    ----------
    network : SliceNetwork
        In evaluation mode, on the CPU.
    split : SplitKey, optional
        None where the caller of `fit` parted the slices in another way.
    data : mapping
        ``datasets``, ``slices``, ``patients``, ``licences``, ``negatives_kept`` and so on.
    start : InitialWeights, optional
        None for random weights.
    result : mapping
        The figures at the end, and which weights were kept.
    """

    folder: Path
    recipe: Recipe
    network: SliceNetwork = field(repr=False)
    split: SplitKey | None = field(repr=False)
    data: Mapping[str, Any] = field(repr=False)
    start: InitialWeights | None
    result: Mapping[str, Any] = field(repr=False)

    @property
    def spec(self) -> PreprocessSpec:
        """What the network is fed."""
        return self.recipe.preprocess()

    @property
    def labels(self) -> tuple[Label, ...]:
        """What its outputs are."""
        return self.recipe.answers

    @property
    def split_key(self) -> bytes:
        """The key that parted the patients.

        Raises
        ------
        TrainingError
            When the run does not say, or the key is gone.
        """
        if self.split is None:
            raise TrainingError(f"{self.folder} does not say how patients were parted.")
        return self.split.key()

    @property
    def negatives_kept(self) -> float:
        """Share of the slices without blood that an epoch saw; 1 where all were.

        What is learnt from fewer negatives is too high: ``logit + log(share)`` puts it right.
        """
        return float(self.data["negatives_kept"])


def open_run(run: Path) -> OpenedRun:
    """Open a finished run.

    Raises
    ------
    TrainingError
        When there is none, or it is not finished.
    """
    recipe = kept_recipe(run)
    if recipe is None:
        raise TrainingError(f"There is no run in {run}; make one with `python -m train fit`.")
    result = kept_result(run)
    if result is None:
        raise TrainingError(f"The run {run} is not finished; the same `fit` command goes on.")
    split, start = _read(run / "split.json"), _read(run / "start.json")
    return OpenedRun(
        folder=run,
        recipe=recipe,
        network=_network(run, recipe),
        split=SplitKey(**(split | {"shares": tuple(split["shares"])})) if split else None,
        data=_read(run / "data.json") or {},
        start=InitialWeights(**start) if start else None,
        result=result,
    )


def begin(
    run: Path,
    recipe: Recipe,
    data: Mapping[str, Any],
    *,
    split: SplitKey | None = None,
    start: InitialWeights | None = None,
) -> None:
    """Write down what is asked, or check that the folder holds a run of just that.

    Raises
    ------
    TrainingError
        When it holds a run of another recipe or of other data.
    """
    kept = kept_recipe(run)
    if kept is not None and not recipe.same_run(kept):
        raise TrainingError(
            f"{run} holds a run of another recipe ({_first_difference(recipe, kept)}); "
            "give another folder."
        )
    if kept is not None and (_read(run / "data.json") or {}).get("digest") != data["digest"]:
        raise TrainingError(f"{run} holds a run on other slices; give another folder.")
    run.mkdir(parents=True, exist_ok=True)
    _write(run / "data.json", data)
    if split is not None:
        _write(run / "split.json", dataclasses.asdict(split))
    if start is not None:
        _write(run / "start.json", dataclasses.asdict(start))
    _write(run / "environment.json", [*(_read(run / "environment.json") or []), environment()])
    write_durable(run / "recipe.json", (recipe.to_json() + "\n").encode())


def keep_best(run: Path, network: SliceNetwork) -> None:
    """Keep the weights that looked best so far, as they were while learning."""
    _write_weights(run / BEST, network)


def kept_best(run: Path, recipe: Recipe) -> SliceNetwork | None:
    """Return the network of the weights that looked best; None where they are gone or damaged.

    A run does without them: its last weights are there.
    """
    try:
        return _read_weights(run / BEST, recipe)
    except (OSError, SafetensorError, RuntimeError):
        return None


def finish(run: Path, network: SliceNetwork, result: Mapping[str, Any]) -> None:
    """Keep the network, and then the word that the run is done."""
    _write_weights(run / WEIGHTS, network)
    _write(run / "result.json", result)


def _write_weights(path: Path, network: SliceNetwork) -> None:
    state = {name: t.detach().cpu().contiguous() for name, t in network.state_dict().items()}
    write_durable(path, save_tensors(state))


def kept_recipe(run: Path) -> Recipe | None:
    """Return the recipe of the run in a folder, None where there is none."""
    path = run / "recipe.json"
    return read_recipe(path.read_text(encoding="utf-8")) if path.is_file() else None


def kept_result(run: Path) -> dict[str, Any] | None:
    """Return the result of a finished run, None where it is not."""
    found: dict[str, Any] | None = _read(run / "result.json")
    return found


def describe(train: Slices, watch: Slices, negatives_kept: float) -> dict[str, Any]:
    """Return what a run learns from, with a digest by which other data is told."""
    digest = hashlib.sha256()
    for part in (train, watch):
        digest.update(np.ascontiguousarray(part.rows).tobytes())
        digest.update(np.ascontiguousarray(part.labels).tobytes())
        digest.update("\n".join(part.table["series"].unique()).encode())
    datasets = sorted(train.table["dataset"].unique())
    return {
        "datasets": datasets,
        "licences": {n: dataclasses.asdict(train.cache.licences[n]) for n in datasets},
        "slices": len(train),
        "series": int(train.table["series"].nunique()),
        "patients": int(train.table["patient"].nunique()),
        "watched_slices": len(watch),
        "watched_patients": int(watch.table["patient"].nunique()),
        "negatives_kept": negatives_kept,
        "digest": digest.hexdigest(),
    }


def environment() -> dict[str, str]:
    """Return versions and devices: what the same weights need besides recipe and data."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    return {
        "ichnode": ichnode.__version__,
        "code": _code_version(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "numpy": np.__version__,
        "device": device,
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "threads": str(torch.get_num_threads()),
    }


def _code_version() -> str:
    """Return what git says of this code, "" where it is not in a repository."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        asked = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return asked.stdout.strip()


def _network(run: Path, recipe: Recipe) -> SliceNetwork:
    try:
        return _read_weights(run / WEIGHTS, recipe).eval()
    except (OSError, SafetensorError, RuntimeError) as error:
        raise TrainingError(
            f"The weights of the run {run} are missing or damaged; remove its result.json and "
            "give the same `fit` command."
        ) from error


def _read_weights(path: Path, recipe: Recipe) -> SliceNetwork:
    network = build(recipe.architecture, recipe.preprocess().channels, len(recipe.answers))
    network.load_state_dict(load_tensors(path.read_bytes()))
    return network


def _first_difference(wanted: Recipe, kept: Recipe) -> str:
    for one in dataclasses.fields(Recipe):
        old, new = getattr(kept, one.name), getattr(wanted, one.name)
        if old != new and one.name != "minutes":
            return f"{one.name} is {old} there and {new} here"
    return "another version"


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _write(path: Path, content: Any) -> None:
    write_durable(path, (json.dumps(content, indent=1, sort_keys=True) + "\n").encode())
