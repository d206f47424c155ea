"""Slices a second from DICOM files to probabilities, beside the bare networks on the same machine.

Run it as ``python tests/benchmarks/bench_inference.py``; ``--seconds`` sets how long each line is
measured. The model is the shipped one; ``--size 256`` measures an untrained ResNet-18 at another
input size, as the figures of others are given.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from ichnode.domain.series import Header, InstanceRef
from ichnode.domain.work import Analysed, AnalysisWork, Lease, Phase
from ichnode.imaging.header import read_header
from ichnode.imaging.volume import read_series
from ichnode.infer.device import Engine, eager, set_threads
from ichnode.infer.stage import InferStage
from ichnode.logs import configure_logging
from ichnode.nets.architectures import build
from ichnode.nets.bundle import Bundle
from ichnode.nets.manifest import PreprocessSpec
from ichnode.nets.preprocess import preprocess
from ichnode.nets.registry import Registry
from ichnode.phantom.studies import write_study

SLICES = 32


def rate(work: Callable[[], object], seconds: float) -> float:
    """Return slices a second: the median of the rounds that fit into the time."""
    work()  # warm
    times: list[float] = []
    while sum(times) < seconds or len(times) < 3:
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return SLICES / statistics.median(times)


def show(name: str, value: float, reference: float) -> None:
    print(f"  {name:<44} {value:8.1f} slices/s   {value / reference:5.2f}", flush=True)


def compiled(engine: Engine) -> Callable[[torch.Tensor], torch.Tensor]:
    """The network of an engine through torch.compile, for one fixed batch."""
    return torch.compile(engine.networks["joint"], dynamic=False)


def networks_alone(
    networks: dict[str, torch.nn.Module], images: torch.Tensor, seconds: float
) -> float:
    """Measure the bare engines and return the best rate."""
    cpu = torch.device("cpu")
    exact, reduced = (eager(networks, cpu, kind) for kind in (torch.float32, torch.bfloat16))
    runs: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
        "eager float32": networks["joint"],
        "eager float32, channels last, folded": exact.networks["joint"],
        "eager bfloat16, channels last, folded": reduced.networks["joint"],
        "compiled bfloat16": compiled(reduced),
    }
    best = reference = 0.0
    for name, run in runs.items():
        try:
            with torch.inference_mode():
                value = rate(lambda run=run: run(images), seconds)
        except Exception as error:  # noqa: BLE001 - a machine without a compiler has three lines
            print(f"  {name:<44} not here ({type(error).__name__})")
            continue
        reference = reference or value
        best = max(best, value)
        show(name, value, reference)
    return best


def end_to_end(folder: Path, seconds: float) -> None:
    """Measure the parts and the whole for the shipped model."""
    study = write_study(folder / "study", 900_050, extras=(), slices=SLICES)
    files = study.series["head"]
    headers = [read_header(path) for path in files]
    stage = InferStage(folder / "models", folder, device="auto")
    bundle = Bundle.load(Registry(folder / "models").champion())
    volume = read_series(list(zip(headers, files, strict=True)), complete=True)
    spec = bundle.manifest.preprocess

    def prepared() -> torch.Tensor:
        hu = torch.from_numpy(volume.hu)
        return preprocess(hu, volume.spacing_mm, volume.positions_mm.tolist(), spec)

    print(
        f"shipped model, {spec.size_px} px, {spec.channels} channels, {SLICES} slices, "
        f"{torch.get_num_threads()} threads, {stage.device_name}"
    )
    best = networks_alone(dict(bundle.networks), prepared(), seconds)
    reading = lambda: read_series(list(zip(headers, files, strict=True)), complete=True)  # noqa: E731
    show("decode to Hounsfield units", rate(reading, seconds), best)
    show("preprocess", rate(prepared, seconds), best)
    work = work_on(folder, files, headers)

    def whole() -> None:
        if not isinstance(stage.handle(work), Analysed):
            raise RuntimeError("the benchmark's series was not analysed")

    show("DICOM files to result, over the best network", rate(whole, seconds), best)


def work_on(folder: Path, files: list[Path], headers: list[Header]) -> AnalysisWork:
    return AnalysisWork(
        lease=Lease(1, "token", 1, datetime(2026, 1, 1, tzinfo=UTC)),
        series_uid=headers[0].series_uid,
        study_uid=headers[0].study_uid,
        generation=1,
        set_digest="digest",
        phase=Phase.FINAL,
        instances=tuple(
            InstanceRef("0" * 64, path.relative_to(folder).as_posix(), "", header)
            for path, header in zip(files, headers, strict=True)
        ),
        earlier=None,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--threads", type=int, default=0)
    asked = parser.parse_args()
    configure_logging(level="warning")
    set_threads(asked.threads)
    with tempfile.TemporaryDirectory() as folder:
        end_to_end(Path(folder), asked.seconds)
    spec = PreprocessSpec(size_px=asked.size, windows_hu=((0.0, 80.0),) * 3)
    print(f"untrained ResNet-18, {asked.size} px, {spec.channels} channels")
    untrained = {"joint": build("resnet18_local", spec.channels, 6).eval()}
    networks_alone(
        untrained, torch.rand(SLICES, spec.channels, asked.size, asked.size), asked.seconds
    )


if __name__ == "__main__":
    main()
