"""Bundles that nobody trained, for tests: their answer is set by hand."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from torch import nn

from ichnode.domain.findings import LABELS, Label
from ichnode.nets.architectures import build
from ichnode.nets.bundle import Bundle, write_bundle
from ichnode.nets.calibration import NOT_ASKED, SeriesLogits
from ichnode.nets.context import ContextNet
from ichnode.nets.manifest import (
    Calibration,
    ContextSpec,
    Manifest,
    NetworkSpec,
    PreprocessSpec,
    Provenance,
    SelfTest,
    Thresholds,
    VolumeSpec,
)
from ichnode.nets.runnable import prepare, read_logits
from ichnode.nets.selftest import self_test_input, self_test_series

SIX = (1.0,) * 6
SPEC = PreprocessSpec(size_px=64, windows_hu=((0.0, 80.0),), context_slices=1)


def write_model(
    folder: Path, *, logit: float, version: str = "1", spec: PreprocessSpec = SPEC, off: float = 0.0
) -> Manifest:
    """Write a joint bundle whose logits are about `logit` for everything.

    The last layer's weights are tiny and its bias is `logit`, so that images still make a small,
    repeatable difference. `off` makes the stated self-test wrong by so much.
    """
    torch.manual_seed(11)
    network = build("resnet18_local", spec.channels, len(LABELS)).eval()
    with torch.no_grad():
        network.near.weight.mul_(0.1)
        network.far.weight.mul_(0.1)
        network.far.bias.fill_(0.0)
        network.near.bias.fill_(logit)
    state = {k: v.half().float() for k, v in network.state_dict().items() if v.is_floating_point()}
    network.load_state_dict(state, strict=False)
    with torch.inference_mode():
        expected = network(self_test_input(spec)).double() + off
    manifest = Manifest(
        format=1,
        name="untrained",
        version=version,
        labels=LABELS,
        networks=(NetworkSpec("joint", "resnet18_local", LABELS, "joint.safetensors", ""),),
        preprocess=spec,
        calibration=Calibration(SIX, (0.0,) * 6, SIX, (0.0,) * 6, "adjacent_mean", "not at all"),
        thresholds=Thresholds((0.9,) * 6, 0.6, "by hand"),
        provenance=Provenance("nothing", "Apache-2.0", "0", "{}", "2026-01-01"),
        self_test=SelfTest("discs-1", tuple(map(tuple, expected.tolist())), 0.01, 0.2),
    )
    return write_bundle(folder, manifest, {"joint": network.state_dict()})


def write_drawing(
    folder: Path, *, logit: float, mask_logit: float, shown: tuple[Label, ...] = LABELS
) -> Manifest:
    """Write a joint bundle that draws masks: every place has `mask_logit`, each label `logit`."""
    joint = write_model(folder, logit=0.0)
    torch.manual_seed(14)
    network = build("compact_mask", SPEC.channels, len(LABELS)).eval()
    with torch.no_grad():
        for layer in (network.near, network.far, network.hear, network.draw):
            layer.weight.zero_()
            layer.bias.fill_(0.0)
        network.near.bias.fill_(logit)
        network.draw.bias.fill_(mask_logit)
    drawing = dataclasses.replace(
        joint,
        networks=(NetworkSpec("joint", "compact_mask", LABELS, "joint.safetensors", ""),),
        self_test=SelfTest("discs-1", ((logit,) * 6,) * 8, 0.01, 0.2),
        volume=VolumeSpec(
            (0.01,) * 6, 0.5, 40, 1.0, 0.2, (-2.0, 2.0), shown, "Made up, of simulated heads."
        ),
    )
    return write_bundle(folder, drawing, {"joint": network.state_dict()})


def write_pair(folder: Path, *, hemorrhage_logit: float, subtype_logit: float) -> Manifest:
    """Write a pair of networks: one for "any", one for the kinds where there is any."""
    joint = write_model(folder, logit=0.0)
    states = {}
    for role, count, logit in (("hemorrhage", 1, hemorrhage_logit), ("subtypes", 5, subtype_logit)):
        torch.manual_seed(12)
        network = build("resnet18_local", SPEC.channels, count)
        with torch.no_grad():
            for layer in (network.near, network.far):
                layer.weight.zero_()
                layer.bias.fill_(logit / 2)
        states[role] = network.state_dict()
    (folder / "joint.safetensors").unlink()
    kinds = subtype_logit if hemorrhage_logit > 0 else NOT_ASKED
    expected = ((hemorrhage_logit, *(kinds,) * 5),) * 8
    pair = dataclasses.replace(
        joint,
        networks=(
            NetworkSpec("hemorrhage", "resnet18_local", LABELS[:1], "hemorrhage.safetensors", ""),
            NetworkSpec("subtypes", "resnet18_local", LABELS[1:], "subtypes.safetensors", ""),
        ),
        self_test=SelfTest("discs-1", expected, 0.01, 0.2),
    )
    return write_bundle(folder, pair, states)


def write_with_context(
    folder: Path,
    *,
    logit: float = 0.0,
    slice_blend: tuple[float, ...] = (0.5,) * 6,
    series_blend: tuple[float, ...] = (0.25,) * 6,
    off: float = 0.0,
) -> Manifest:
    """Write a joint network and a small untrained context network, blended label by label.

    `off` makes the stated self-test of the series wrong by so much.
    """
    joint = write_model(folder, logit=logit)
    network = Bundle.load(folder).networks["joint"]
    torch.manual_seed(13)
    context = ContextNet(network.feature_width, hidden=16, layers=1)
    state = {name: t.half().float() for name, t in context.state_dict().items()}
    context.load_state_dict(state)
    whole = dataclasses.replace(
        joint,
        networks=(
            *joint.networks,
            NetworkSpec("context", context.architecture, LABELS, "context.safetensors", ""),
        ),
        context=ContextSpec(slice_blend, series_blend),
    )
    found = self_tested(whole, {"joint": network, "context": context})
    test = dataclasses.replace(
        joint.self_test,
        expected=tuple(map(tuple, found.slices.tolist())),
        expected_series=tuple((found.series + off).tolist()),
    )
    states = {"joint": network.state_dict(), "context": context.state_dict()}
    return write_bundle(folder, dataclasses.replace(whole, self_test=test), states)


def self_tested(manifest: Manifest, networks: dict[str, nn.Module]) -> SeriesLogits:
    """What the networks answer to the made-up input of the self-test."""
    images, positions_mm = self_test_series(manifest.preprocess)
    return read_logits(prepare(networks, "cpu"), (images,), positions_mm, manifest)
