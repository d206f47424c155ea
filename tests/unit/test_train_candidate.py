"""The candidate: what training made, as a bundle that says what it is and where it comes from."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ichnode.domain.findings import LABELS
from ichnode.infer.device import eager
from ichnode.infer.predictor import Predictor
from ichnode.nets.architectures import build
from ichnode.nets.bundle import Bundle
from ichnode.nets.context import ContextNet
from ichnode.nets.manifest import Calibration, ContextSpec, PreprocessSpec, Thresholds
from ichnode.nets.pretrained import IMAGENET_LICENCE, InitialWeights
from tests.training_data import ToySource
from train.candidate import (
    Trained,
    TrainedNetwork,
    TrainedOn,
    as_stored,
    predict_with_bundle,
    starting_from,
    trained_on,
    write_candidate,
)
from train.data.cache import build_cache
from train.data.records import Licence
from train.data.views import all_slices
from train.errors import TrainingError
from train.judge.card import simulated_only

SIX = (1.0,) * 6
SPEC = PreprocessSpec(size_px=32, windows_hu=((0.0, 80.0), (-20.0, 180.0)), context_slices=1)
RSNA = TrainedOn("rsna", Licence("RSNA terms", non_commercial=True), 17, 19, 660)
HEADS = TrainedOn("simulated", Licence("Apache-2.0", False), 8, 8, 240, simulated=True)
SITE = TrainedOn("site", Licence("the site's own", non_commercial=False), 400, 420, 14000)
IMAGENET = InitialWeights("weights.pth", "0" * 64, IMAGENET_LICENCE, non_commercial=True)


def joint(seed: int = 1) -> TrainedNetwork:
    torch.manual_seed(seed)
    return TrainedNetwork("resnet18", LABELS, build("resnet18", SPEC.channels, 6))


def trained(**changes: Any) -> Trained:
    """A joint network that nobody trained."""
    plain = Trained(
        name="tried",
        version="3",
        networks={"joint": joint()},
        spec=SPEC,
        calibration=Calibration(SIX, (0.0,) * 6, SIX, (0.0,) * 6, "max", "not at all"),
        thresholds=Thresholds((0.9,) * 6, 0.6, "by hand"),
        recipe="{}",
        data=(HEADS,),
    )
    return dataclasses.replace(plain, **changes)


def with_context() -> Trained:
    one = joint()
    torch.manual_seed(2)
    context = ContextNet(one.module.feature_width, hidden=8, layers=1)
    return trained(
        networks={"joint": one, "context": TrainedNetwork(context.architecture, LABELS, context)},
        context=ContextSpec((0.5,) * 6, (0.5,) * 6),
    )


def pair() -> Trained:
    torch.manual_seed(4)
    one, five = (build("resnet18_concat", SPEC.channels, count) for count in (1, 5))
    return trained(
        networks={
            "hemorrhage": TrainedNetwork("resnet18_concat", LABELS[:1], one),
            "subtypes": TrainedNetwork("resnet18_concat", LABELS[1:], five),
        }
    )


@pytest.mark.parametrize("make", [trained, with_context, pair])
def test_a_candidate_passes_its_own_self_test(tmp_path: Path, make: Callable[[], Trained]) -> None:
    """What was written is read back and runs in the node, on the exact engine at once."""
    manifest = write_candidate(make(), tmp_path)
    bundle = Bundle.load(tmp_path)
    assert bundle.manifest == manifest
    assert set(bundle.networks) == set(make().networks)
    predictor = Predictor(bundle, [lambda n: eager(n, torch.device("cpu"), torch.float32)])
    assert predictor.model_uid == manifest.model_uid


def test_what_is_measured_is_what_is_stored(tmp_path: Path) -> None:
    """The rounded copy has the very weights that come back from the bundle, and the original is
    left alone.
    """
    network = joint().module
    before = {name: t.clone() for name, t in network.state_dict().items()}
    rounded = as_stored(network)
    write_candidate(
        trained(networks={"joint": TrainedNetwork("resnet18", LABELS, network)}), tmp_path
    )
    read = Bundle.load(tmp_path).networks["joint"].state_dict()
    kept = {n: t for n, t in rounded.state_dict().items() if not n.endswith("batches_tracked")}
    assert all(torch.equal(read[name], t) for name, t in kept.items())
    assert all(torch.equal(before[name], t) for name, t in network.state_dict().items())
    assert not torch.equal(before["head.1.weight"], kept["head.1.weight"])


def test_a_diverged_network_is_no_candidate() -> None:
    """A weight beyond float16 stops the export with what to do about it."""
    network = joint().module
    with torch.no_grad():
        network.head[1].bias[0] = 1e6
    with pytest.raises(TrainingError, match="lower the learning rate"):
        as_stored(network)


def test_simulated_scans_are_called_so(tmp_path: Path) -> None:
    """Only simulated, or simulated beside others, with how much of each."""
    only = write_candidate(trained(), tmp_path).provenance
    assert only.data == "simulated head CT only (8 patients, 8 series, 240 slices)"
    assert only.licence == "simulated: Apache-2.0"
    assert only.restrictions is None
    mixed = write_candidate(trained(data=(RSNA, HEADS)), tmp_path).provenance
    assert mixed.data.startswith("rsna (17 patients, 19 series, 660 slices); simulated head CT (8")


def test_one_non_commercial_source_marks_the_bundle(tmp_path: Path) -> None:
    """The licence names every source, and the restriction those that exclude commercial use."""
    told = write_candidate(trained(data=(RSNA, SITE)), tmp_path).provenance
    assert told.licence == "rsna: RSNA terms (non-commercial); site: the site's own"
    assert told.restrictions == "non-commercial: rsna: RSNA terms (non-commercial)"


def test_weights_from_imagenet_mark_the_bundle(tmp_path: Path) -> None:
    """A network that started from ImageNet is for non-commercial use, whatever it then learned."""
    told = write_candidate(trained(initial=IMAGENET), tmp_path).provenance
    assert told.licence.endswith(f"initial weights: {IMAGENET_LICENCE}")
    assert told.restrictions == f"non-commercial: initial weights: {IMAGENET_LICENCE}"
    assert told.data.endswith("started from weights.pth")


def test_the_terms_of_the_champion_follow_its_successors(tmp_path: Path) -> None:
    """Retraining on the site's own scans lifts no restriction, and names no source twice."""
    first = write_candidate(trained(data=(RSNA,), initial=IMAGENET), tmp_path)
    second = write_candidate(trained(data=(SITE,), initial=starting_from(first)), tmp_path)
    third = write_candidate(trained(data=(SITE,), initial=starting_from(second)), tmp_path)
    assert second.provenance.licence == f"site: the site's own; {first.provenance.licence}"
    assert third.provenance.licence == second.provenance.licence
    assert third.provenance.restrictions == first.provenance.restrictions
    assert first.model_uid in second.provenance.data


def test_who_started_from_scans_has_not_learnt_from_simulated_ones_only(tmp_path: Path) -> None:
    """Whatever came after; and who started from simulated ones, or from photographs, has."""
    simulated = dataclasses.replace(SITE, dataset="randomised", simulated=True)
    plain = write_candidate(trained(data=(simulated,)), tmp_path)
    again = write_candidate(trained(data=(simulated,), initial=starting_from(plain)), tmp_path)
    photographs = write_candidate(trained(data=(simulated,), initial=IMAGENET), tmp_path)
    assert all(simulated_only(one) for one in (plain, again, photographs))
    of_site = write_candidate(trained(data=(SITE,), initial=starting_from(plain)), tmp_path)
    later = write_candidate(trained(data=(simulated,), initial=starting_from(of_site)), tmp_path)
    assert not simulated_only(of_site)
    assert not simulated_only(later)


MISFITS: dict[str, tuple[dict[str, Any], str]] = {
    "half a pair": ({"networks": {"subtypes": joint()}}, "No bundle is made of subtypes"),
    "nothing": ({"networks": {}}, "No bundle is made of nothing"),
    "a context without its blend": (
        {"networks": with_context().networks},
        "a context network without its blend",
    ),
    "another architecture": (
        {"networks": {"joint": TrainedNetwork("resnet18_concat", LABELS, joint().module)}},
        "do not fit its architecture",
    ),
    "thresholds upside down": (
        {"thresholds": Thresholds((0.5,) * 6, 0.6, "by hand")},
        "review threshold is above",
    ),
}


@pytest.mark.parametrize("what", MISFITS)
def test_what_makes_no_bundle_is_refused(tmp_path: Path, what: str) -> None:
    """The exporter says in one sentence what does not belong together."""
    changes, sentence = MISFITS[what]
    with pytest.raises(TrainingError, match=sentence):
        write_candidate(trained(**changes), tmp_path)


def test_what_was_learned_from_is_counted(tmp_path: Path) -> None:
    """Patients, series and slices of each dataset, with its licence."""
    cache = build_cache(tmp_path, ToySource(count=3), SPEC, workers=1)
    slices = all_slices(cache, 1)
    assert trained_on(slices) == (TrainedOn("toy", Licence("CC0", False), 3, 3, 18),)


def test_a_bundle_is_measured_on_whole_series_of_its_own_size(tmp_path: Path) -> None:
    """Another size is another input, and some slices of a series are not the series."""
    write_candidate(trained(), tmp_path / "bundle")
    bundle = Bundle.load(tmp_path / "bundle")
    other = dataclasses.replace(SPEC, size_px=48)
    wrong = build_cache(tmp_path / "wrong", ToySource(count=1), other, workers=1)
    with pytest.raises(TrainingError, match="make one of 32 px"):
        predict_with_bundle(bundle, all_slices(wrong, 1))
    slices = all_slices(build_cache(tmp_path / "right", ToySource(count=2), SPEC, workers=1), 1)
    with pytest.raises(ValueError, match="whole series"):
        predict_with_bundle(bundle, slices.where(slices.rows != 2))


def test_what_a_bundle_says_stands_beside_what_is_true(tmp_path: Path) -> None:
    """Series in order, with their keys, labels and facts; the bar is told of each."""
    write_candidate(trained(), tmp_path / "bundle")
    cache = build_cache(tmp_path / "cache", ToySource(count=3), SPEC, workers=1)
    seen: list[None] = []
    found = predict_with_bundle(
        Bundle.load(tmp_path / "bundle"), all_slices(cache, 1), advance=lambda: seen.append(None)
    )
    assert len(seen) == len(found) == 3
    assert found.patients == ("p0", "p1", "p2")
    assert found.series[0].slice_truth[:, 0].tolist() == [0, 0, 1, 0, 0, 0]
    assert found.series_truth[:, 0].tolist() == [1, 0, 1]
    assert found.series[1].facts["manufacturer"] == "toy"
    assert found.slice_logits.shape == (18, 6)
