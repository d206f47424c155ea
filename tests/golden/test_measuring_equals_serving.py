"""What training measures of a bundle and what the node then says of the same series are equal."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from ichnode.domain.findings import LABELS
from ichnode.imaging.volume import CtVolume
from ichnode.infer.device import eager
from ichnode.infer.predictor import Predictor
from ichnode.nets.architectures import SliceNetwork, build
from ichnode.nets.bundle import Bundle
from ichnode.nets.calibration import read
from ichnode.nets.context import ContextNet
from ichnode.nets.manifest import (
    Calibration,
    ContextSpec,
    PreprocessSpec,
    Thresholds,
    VolumeSpec,
)
from ichnode.nets.preprocess import preprocess
from ichnode.nets.volume import scaled_volumes_ml
from ichnode.phantom import simulate_head
from train.candidate import Trained, TrainedNetwork, predict_with_bundle, write_candidate
from train.data.cache import Cache, build_cache
from train.data.records import UNKNOWN, Licence, SourceSeries
from train.data.views import all_slices

SPEC = PreprocessSpec(size_px=64, windows_hu=((0.0, 80.0), (-20.0, 180.0)))
TEMPERATURES, BIASES = (0.8, 1.1, 1.2, 1.3, 0.9, 1.0), (0.1, -0.2, 0.3, 0.0, -0.1, 0.2)


@dataclass(frozen=True)
class Heads:
    """A simulated head in thick slices, and in thin ones of which some are missing."""

    name: str = "simulated"

    @property
    def licence(self) -> Licence:
        return Licence("Apache-2.0", non_commercial=False)

    def jobs(self) -> Sequence[str]:
        return ["thick", "thin"]

    def read(self, job: str) -> SourceSeries:
        head = simulate_head(900_021, bleeds=["subdural"], slices=14, size_px=96)
        times, step_mm = (4, 1.25) if job == "thin" else (1, 5.0)
        kept = np.delete(np.arange(times * len(head.hu)), slice(21, 27))
        return SourceSeries(
            dataset=self.name,
            patient=job,
            study=job,
            series=job,
            hu=np.repeat(head.hu, times, axis=0)[kept],
            spacing_mm=(step_mm, *head.spacing_mm[1:]),
            positions_mm=step_mm * kept,
            slice_keys=tuple(map(str, kept)),
            slice_labels=np.repeat(head.labels, times, axis=0)[kept].astype(np.float32),
            series_labels=np.full(len(LABELS), UNKNOWN),
            label_source="simulation",
        )


def volume_of(series: SourceSeries) -> CtVolume:
    """The series as reading its DICOM files would give it."""
    return CtVolume(
        hu=series.hu,
        spacing_mm=series.spacing_mm,
        positions_mm=series.positions_mm,
        slice_uids=tuple(f"2.25.{index + 1}" for index in range(len(series.hu))),
    )


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return build_cache(tmp_path_factory.mktemp("cache"), Heads(), SPEC, workers=1)


def network(architecture: str, outputs: int, seed: int) -> SliceNetwork:
    torch.manual_seed(seed)
    made = build(architecture, SPEC.channels, outputs)
    made.train()(thick_images())  # statistics of heads
    return made.eval()


def thick_images() -> torch.Tensor:
    thick = Heads().read("thick")
    hu = torch.from_numpy(thick.hu)
    return preprocess(hu, thick.spacing_mm, thick.positions_mm.tolist(), SPEC)


def centred(made: SliceNetwork) -> SliceNetwork:
    """Moved so that about half of the slices are positive."""
    with torch.no_grad():
        made.head[-1].bias -= made(thick_images()).median()
    return made


def joint() -> Trained:
    return of({"joint": TrainedNetwork("resnet18_local", LABELS, network("resnet18_local", 6, 1))})


def drawing() -> Trained:
    trained = of({"joint": TrainedNetwork("compact_mask", LABELS, network("compact_mask", 6, 6))})
    with torch.no_grad():
        trained.networks["joint"].module.draw.bias.zero_()  # type: ignore[union-attr, operator]
    volume = VolumeSpec(
        (0.8, 0.9, 1.1, 1.2, 0.7, 1.0), 0.5, 9, 1.0, 0.2, (-1.0, 1.0), (), "made up"
    )
    return dataclasses.replace(trained, volume=volume)


def pair() -> Trained:
    one, five = centred(network("resnet18", 1, 2)), network("resnet18_concat", 5, 3)
    return of(
        {
            "hemorrhage": TrainedNetwork("resnet18", LABELS[:1], one),
            "subtypes": TrainedNetwork("resnet18_concat", LABELS[1:], five),
        }
    )


def in_context() -> Trained:
    own = network("densenet121", 6, 4)
    torch.manual_seed(5)
    context = ContextNet(own.feature_width, hidden=16, layers=2)
    networks = {
        "joint": TrainedNetwork("densenet121", LABELS, own),
        "context": TrainedNetwork(context.architecture, LABELS, context),
    }
    shares = ContextSpec((1.0, 0.75, 0.5, 0.5, 0.25, 0.0), (0.5, 0.0, 0.25, 1.0, 0.5, 0.5))
    return of(networks, shares)


def drawing_in_context() -> Trained:
    own = drawing()
    torch.manual_seed(7)
    context = ContextNet(own.networks["joint"].module.feature_width, hidden=16, layers=1)
    networks = {**own.networks, "context": TrainedNetwork(context.architecture, LABELS, context)}
    return dataclasses.replace(of(networks, ContextSpec((0.5,) * 6, (0.5,) * 6)), volume=own.volume)


def of(networks: dict[str, TrainedNetwork], context: ContextSpec | None = None) -> Trained:
    return Trained(
        name="untrained",
        version="1",
        networks=networks,
        spec=SPEC,
        calibration=Calibration(
            TEMPERATURES, BIASES, TEMPERATURES, BIASES, "log_sum_exp", "by hand"
        ),
        thresholds=Thresholds((0.9,) * 6, 0.6, "by hand"),
        recipe="{}",
        data=(),
        context=context,
    )


@pytest.mark.parametrize("make", [joint, drawing, pair, in_context, drawing_in_context])
def test_measuring_and_serving_say_the_same(
    tmp_path: Path, cache: Cache, make: Callable[[], Trained]
) -> None:
    """Joint, with masks, pair and joint with context, over thick slices and over slabs of thin
    ones with a gap: the calibrated probabilities of every slice and of the series are equal to the
    last bit; volumes are, as far as an index keeps what they follow from.
    """
    write_candidate(make(), tmp_path)
    bundle = Bundle.load(tmp_path)
    measured = predict_with_bundle(bundle, all_slices(cache, SPEC.context_slices))
    predictor = Predictor(bundle, [lambda n: eager(n, torch.device("cpu"), torch.float32)])
    for said, job in zip(measured.series, Heads().jobs(), strict=True):
        served = predictor.predict(volume_of(Heads().read(job)))
        reading = read(said.slice_logits, bundle.manifest.calibration, said.series_logits)
        assert said.series == job
        keys = [int(key) for key in Heads().read(job).slice_keys]
        rows = [keys.index(int(key)) for key in said.slice_keys]
        assert np.array_equal(served.slices[rows], reading.slices)
        assert np.array_equal(served.series, reading.series)
        assert len(np.unique(reading.slices[:, 0])) > 5
        volume = bundle.manifest.volume
        assert (served.volume_ml is None) == (volume is None)
        if volume is not None:
            assert served.volume_ml == pytest.approx(
                scaled_volumes_ml(said.raw_ml, volume.scale), rel=1e-4
            )
            assert min(served.volume_ml) > 1


def test_the_second_network_of_a_pair_is_asked_where_the_first_sees_blood(
    tmp_path: Path, cache: Cache
) -> None:
    """In measuring as in serving: some slices have kinds, the others none."""
    write_candidate(pair(), tmp_path)
    measured = predict_with_bundle(Bundle.load(tmp_path), all_slices(cache, 1))
    asked = measured.slice_logits[:, 0] > 0
    assert 0 < asked.sum() < len(asked)
    assert (measured.slice_logits[~asked, 1:] == -30).all()
    assert (measured.slice_logits[asked, 1:] > -30).all()


def test_an_engine_of_less_precision_is_measured_as_it_is_served(
    tmp_path: Path, cache: Cache
) -> None:
    """Asked for bfloat16, measuring gives what the node says with it."""
    write_candidate(in_context(), tmp_path)
    bundle = Bundle.load(tmp_path)
    slices = all_slices(cache, 1).of_patients({"thick"})
    measured = predict_with_bundle(bundle, slices, dtype=torch.bfloat16)
    predictor = Predictor(bundle, [lambda n: eager(n, torch.device("cpu"), torch.bfloat16)])
    served = predictor.predict(volume_of(Heads().read("thick")))
    (said,) = measured.series
    reading = read(said.slice_logits, bundle.manifest.calibration, said.series_logits)
    assert np.array_equal(served.series, reading.series)
    assert predictor.device == "cpu bfloat16"
