"""How much speaks for blood where: of every kind of model, and never at the cost of an alert."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from structlog.testing import capture_logs
from torch import Tensor, nn

from ichnode.domain.findings import LABELS, Finding
from ichnode.imaging.masks import PLACES, Heat
from ichnode.imaging.volume import CtVolume
from ichnode.infer.device import Engine, eager
from ichnode.infer.key_slab import KeySlab
from ichnode.infer.predictor import Predictor
from ichnode.nets.architectures import build
from ichnode.nets.bundle import Bundle, write_bundle
from ichnode.nets.manifest import Manifest
from ichnode.nets.preprocess import Box, Stack
from ichnode.nets.registry import Registry
from ichnode.nets.runnable import prepare
from ichnode.nets.volume import onto_slice
from ichnode.phantom import simulate_head
from tests.models import SPEC, write_drawing, write_model, write_pair, write_with_context

SIDE = 128


def exact(networks: Mapping[str, nn.Module]) -> Engine:
    return eager(networks, torch.device("cpu"), torch.float32)


def changed(**parts: object) -> Callable[[Mapping[str, nn.Module]], Engine]:
    """An engine with other parts."""

    def make(networks: Mapping[str, nn.Module]) -> Engine:
        whole = exact(networks)
        return dataclasses.replace(whole, parts=dataclasses.replace(whole.parts, **parts))

    return make


def volume_of(hu: np.ndarray, spacing_mm: tuple[float, float, float]) -> CtVolume:
    return CtVolume(
        hu=hu,
        spacing_mm=spacing_mm,
        positions_mm=np.arange(len(hu)) * spacing_mm[0],
        slice_uids=tuple(f"2.25.{index + 1}" for index in range(len(hu))),
    )


@pytest.fixture(scope="module")
def volume() -> CtVolume:
    head = simulate_head(900_001, bleeds=["subdural"], slices=12, size_px=SIDE)
    return volume_of(head.hu, head.spacing_mm)


def on_slice(heat: Heat | None) -> np.ndarray:
    """The chances of a heat map in the pixels of its slice."""
    assert heat is not None
    return onto_slice(torch.from_numpy(heat.chances / 255), Box(*heat.box), (SIDE, SIDE)).numpy()


def says(folder: Path, volume: CtVolume, make: Callable[..., Engine] = exact) -> Heat | None:
    return Predictor(Bundle.load(folder), [make]).predict(volume).key_heat


@pytest.mark.parametrize("way", ["masks", "evidence"])
@pytest.mark.parametrize("seed", [900_002, 900_031, 900_032])
def test_it_lies_on_the_blood(tmp_path: Path, seed: int, way: str) -> None:
    """Of the model that ships and a bleed that it finds: there, and little of it elsewhere.

    With its volumes switched off the same network shows its local evidence, as those do that draw
    no masks.
    """
    whole = Bundle.load(Registry(tmp_path).champion())
    if way == "evidence":
        volume = whole.manifest.volume
        assert volume is not None
        hidden = dataclasses.replace(whole.manifest, volume=dataclasses.replace(volume, shown=()))
        states = {role: network.state_dict() for role, network in whole.networks.items()}
        write_bundle(tmp_path / "hidden", hidden, states)
        whole = Bundle.load(tmp_path / "hidden")
    head = simulate_head(seed, bleeds=["intraparenchymal"], slices=24, size_px=SIDE)
    found = Predictor(whole, [exact]).predict(volume_of(head.hu, head.spacing_mm))
    assert found.finding is Finding.POSITIVE
    chances = on_slice(found.key_heat)
    blood = head.mask[found.key_slices[0]] > 0
    assert chances[blood].mean() > 0.6
    assert chances[~blood].mean() < 0.1
    row, column = np.unravel_index(chances.argmax(), chances.shape)
    away_px = np.hypot(*(np.argwhere(blood) - (row, column)).T)
    assert away_px.min() <= 5


def test_a_positive_alone_has_one(tmp_path: Path, volume: CtVolume) -> None:
    """It is for the key image, and no other finding has one."""
    for name, logit in (("negative", -1.0), ("review", 1.0), ("positive", 4.0)):
        write_model(tmp_path / name, logit=logit)
    found = {
        name: Predictor(Bundle.load(tmp_path / name), [exact]).predict(volume)
        for name in ("negative", "review", "positive")
    }
    assert {name: one.finding.value for name, one in found.items()} == {n: n for n in found}
    assert found["negative"].key_heat is None
    assert found["review"].key_heat is None
    assert on_slice(found["positive"].key_heat).max() == pytest.approx(0.98, abs=0.02)


def test_it_has_the_calibration_of_a_slice(tmp_path: Path, volume: CtVolume) -> None:
    """Temperature and bias of "any", as for the slice's own probability."""
    write_drawing(tmp_path, logit=3.0, mask_logit=-9.0)
    bundle = Bundle.load(tmp_path)
    calibration = dataclasses.replace(
        bundle.manifest.calibration,
        slice_temperature=(2.0, *(1.0,) * 5),
        slice_bias=(0.5, *(0.0,) * 5),
    )
    manifest = dataclasses.replace(bundle.manifest, calibration=calibration)
    found = Predictor(dataclasses.replace(bundle, manifest=manifest), [exact]).predict(volume)
    assert found.key_heat is not None
    assert found.key_heat.chances.min() / 255 == pytest.approx(1 / (1 + np.exp(-2.0)), abs=0.003)
    assert found.slices[found.key_slices[0], 0] == pytest.approx(1 / (1 + np.exp(-2.0)))


def test_a_pair_says_what_its_first_network_sees(tmp_path: Path, volume: CtVolume) -> None:
    """Blood of any kind is what the hemorrhage network answers for."""
    write_pair(tmp_path, hemorrhage_logit=4.0, subtype_logit=-3.0)
    heat = says(tmp_path, volume)
    assert heat is not None
    assert heat.chances.shape == (PLACES, PLACES)
    assert np.unique(heat.chances).tolist() == [round(255 / (1 + np.exp(-4)))]


def test_a_context_has_its_say_at_every_place(tmp_path: Path, volume: CtVolume) -> None:
    """The strongest places are as strong as the blended slice, whose probability is stated."""
    all_, none = (1.0,) * 6, (0.0,) * 6
    write_with_context(tmp_path, logit=3.0, slice_blend=all_, series_blend=none)
    found = Predictor(Bundle.load(tmp_path), [exact]).predict(volume)
    said = found.slices[found.key_slices[0], 0]
    assert said < 0.7, "the slice alone would say 0.95"
    assert found.key_heat is not None
    assert found.key_heat.chances.max() / 255 == pytest.approx(said, abs=0.05)


def test_masks_that_are_good_enough_are_the_heat(tmp_path: Path, volume: CtVolume) -> None:
    """What they say of each place, as the outline goes by."""
    write_drawing(tmp_path, logit=4.0, mask_logit=1.0)
    heat = says(tmp_path, volume)
    assert heat is not None
    assert np.unique(heat.chances).tolist() == [round(255 / (1 + np.exp(-1)))]


@pytest.mark.parametrize("places", [40, 48, 52, 64, 100])
def test_a_bleed_of_one_place_keeps_its_chance(
    tmp_path: Path, volume: CtVolume, places: int
) -> None:
    """However many places a mask has: a small bleed is not washed out."""
    write_drawing(tmp_path, logit=4.0, mask_logit=1.0)

    def draws(images: torch.Tensor) -> torch.Tensor:
        one = torch.full((len(images), 6, places, places), -9.0)
        one[:, :, places // 2 + 1, places // 2 - 2] = 2.0
        return one

    heat = says(tmp_path, volume, changed(masks={"joint": draws}))
    assert heat is not None
    assert heat.chances.max() == round(255 / (1 + np.exp(-2)))


def test_masks_that_cover_nothing_leave_it_to_the_evidence(
    tmp_path: Path, volume: CtVolume
) -> None:
    """A positive that nothing is drawn of still shows what made it one; so does a model whose masks
    nobody measured, or were found too bad.
    """
    write_drawing(tmp_path / "nothing", logit=4.0, mask_logit=-9.0)
    write_drawing(tmp_path / "unmeasured", logit=4.0, mask_logit=1.0)
    bundle = Bundle.load(tmp_path / "unmeasured")
    unmeasured = dataclasses.replace(
        bundle, manifest=dataclasses.replace(bundle.manifest, volume=None)
    )
    write_drawing(tmp_path / "bad", logit=4.0, mask_logit=1.0, shown=())
    for one in (Bundle.load(tmp_path / "nothing"), unmeasured, Bundle.load(tmp_path / "bad")):
        heat = Predictor(one, [exact]).predict(volume).key_heat
        assert heat is not None
        assert np.unique(heat.chances).tolist() == [round(255 / (1 + np.exp(-4)))]


@pytest.mark.parametrize("architecture", ["resnet18", "alexnet_concat", "efficientnet_v2_s"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_networks_that_pool_have_one_too(
    tmp_path: Path, architecture: str, dtype: torch.dtype
) -> None:
    """Their class activation maps, at either precision: the slice's logit is among its places."""
    manifest = write_model(tmp_path, logit=0.0)
    torch.manual_seed(21)
    network = build(architecture, SPEC.channels, len(LABELS)).eval()
    hu = torch.randint(0, 80, (3, SPEC.size_px, SPEC.size_px)).to(torch.int16)
    stack = Stack(hu, ((0, 1), (1, 2), (2, 3)), (0.0, 5.0, 10.0), Box(4, -3, 100, 110))
    slab = KeySlab(prepare({"joint": network}, "cpu", dtype), manifest, stack, 1)
    heat = slab.heat(np.full((3, 6), 0.7))
    assert heat is not None
    assert heat.box == (4, -3, 100, 110)
    assert heat.chances.shape == (PLACES, PLACES)
    assert heat.chances.max() / 255 >= 0.6
    quieter = slab.heat(np.full((3, 6), -0.3))
    assert quieter is not None
    assert (quieter.chances < heat.chances).all()


@pytest.mark.parametrize("far", [-30.0, float("nan"), float("-inf")])
def test_what_speaks_for_nothing_is_none(tmp_path: Path, volume: CtVolume, far: float) -> None:
    """Below the least chance everywhere, or no number at all."""
    write_model(tmp_path, logit=4.0)
    assert says(tmp_path, volume) is not None
    evidence = {"joint": lambda images: torch.full((len(images), 6, 4, 4), far)}
    assert says(tmp_path, volume, changed(evidence=evidence)) is None


def test_an_engine_that_cannot_say_it_gives_none(tmp_path: Path, volume: CtVolume) -> None:
    """The finding is the same, and nothing is logged as failed."""
    write_model(tmp_path, logit=4.0)
    with capture_logs() as logs:
        found = Predictor(Bundle.load(tmp_path), [changed(evidence={})]).predict(volume)
    assert found.finding is Finding.POSITIVE
    assert found.key_heat is None
    assert logs == []


@pytest.mark.parametrize("error", [RuntimeError, ValueError, MemoryError, torch.OutOfMemoryError])
def test_a_heat_map_that_fails_costs_no_finding(
    tmp_path: Path, volume: CtVolume, error: type[Exception]
) -> None:
    """The alert goes out without it; the kind of the error is logged, and nothing else."""
    write_drawing(tmp_path, logit=4.0, mask_logit=-9.0)

    def fail(_images: Tensor) -> Tensor:
        raise error("whatever it is")

    with capture_logs() as logs:
        failing = changed(evidence={"joint": fail})
        found = Predictor(Bundle.load(tmp_path), [failing]).predict(volume)
    assert (found.finding, found.key_heat) == (Finding.POSITIVE, None)
    assert found.volume_ml is not None
    assert [(one["what"], one["error"]) for one in logs] == [("heat", error.__name__)]


def test_it_is_nearly_the_same_in_reduced_precision(tmp_path: Path, volume: CtVolume) -> None:
    """Within some hundredths."""
    write_model(tmp_path, logit=2.5)
    quick = says(tmp_path, volume, lambda n: eager(n, torch.device("cpu"), torch.bfloat16))
    assert np.abs(on_slice(quick) - on_slice(says(tmp_path, volume))).max() < 0.05


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")
@pytest.mark.parametrize("write", [write_model, write_with_context])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_gpu_says_nearly_the_same(
    tmp_path: Path, volume: CtVolume, write: Callable[..., Manifest], dtype: torch.dtype
) -> None:
    """On CUDA, at each of its precisions."""
    write(tmp_path, logit=1.5)
    quick = says(tmp_path, volume, lambda n: eager(n, torch.device("cuda"), dtype))
    assert np.abs(on_slice(quick) - on_slice(says(tmp_path, volume))).max() < 0.05
