"""The bundle: written, read back, and refused when anything about it is not as it was."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ichnode.domain.errors import ModelUnusable
from ichnode.domain.findings import LABELS
from ichnode.domain.ids import is_strict_uid
from ichnode.nets.architectures import build, fold_batch_norm
from ichnode.nets.bundle import Bundle, write_bundle
from ichnode.nets.local import strongest
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
    canonical,
)
from ichnode.nets.manifest_file import read_manifest, weights_digest, write_manifest
from ichnode.nets.selftest import self_test_input
from tests.models import write_with_context

SIX = (1.0,) * 6
OF_BEFORE = Path(__file__).parents[1] / "golden" / "bundles" / "ichnode-simulated-0.1.0.json"
"""The manifest of the model that shipped first."""
SHIPPED = Path(__file__).parents[2] / "ichnode" / "nets" / "shipped" / "ichnode-simulated"


def manifest(**changes: Any) -> Manifest:
    """A manifest of a tiny joint network that nobody trained."""
    plain = Manifest(
        format=1,
        name="untrained",
        version="1",
        labels=LABELS,
        networks=(NetworkSpec("joint", "resnet18_local", LABELS, "joint.safetensors", ""),),
        preprocess=PreprocessSpec(size_px=32, windows_hu=((0.0, 80.0),), context_slices=0),
        calibration=Calibration(SIX, (0.0,) * 6, SIX, (0.0,) * 6, "max", "not"),
        thresholds=Thresholds((0.9,) * 6, 0.5, "by hand"),
        provenance=Provenance("none", "Apache-2.0", "0", "{}", "2026-01-01"),
        self_test=SelfTest("discs-1", ((0.0,) * 6,), 1.0, 1.0),
    )
    return dataclasses.replace(plain, **changes)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    torch.manual_seed(3)
    folder = tmp_path / "bundle"
    write_bundle(folder, manifest(), {"joint": build("resnet18_local", 1, 6).state_dict()})
    return folder


def test_what_is_read_is_what_was_written(bundle: Path) -> None:
    """Manifest, weights (rounded to float16) and UID come back."""
    torch.manual_seed(3)
    original = build("resnet18_local", 1, 6).eval()
    read = Bundle.load(bundle)
    assert is_strict_uid(read.manifest.model_uid)
    assert read.manifest.networks[0].sha256
    images = torch.rand(2, 1, 32, 32)
    assert torch.allclose(read.networks["joint"](images), original(images), atol=0.02)


def test_the_uid_follows_from_everything(bundle: Path) -> None:
    """A new threshold, weight or card of origin is a new model; the same content is the same."""
    whole = read_manifest(bundle)
    cuts = dataclasses.replace(whole.thresholds, review=0.4)
    network = dataclasses.replace(whole.networks[0], sha256="0" * 64)
    others = [
        dataclasses.replace(whole, thresholds=cuts),
        dataclasses.replace(whole, networks=(network,)),
        dataclasses.replace(whole, version="2"),
    ]
    assert len({whole.model_uid, *(other.model_uid for other in others)}) == 4
    assert dataclasses.replace(whole).model_uid == whole.model_uid


def edit(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        content = json.loads((folder / "bundle.json").read_text())
        change(content)
        (folder / "bundle.json").write_text(json.dumps(content))

    return apply


def flip_a_bit(folder: Path) -> None:
    weights = folder / "joint.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1000] ^= 1
    weights.write_bytes(content)


TAMPERED: dict[str, tuple[Callable[[Path], object], str]] = {
    "a bit of the weights": (flip_a_bit, "damaged or others"),
    "no weights": (lambda f: (f / "joint.safetensors").unlink(), "cannot be read"),
    "no manifest": (lambda f: (f / "bundle.json").unlink(), "no readable"),
    "no JSON": (lambda f: (f / "bundle.json").write_text("{"), "damaged"),
    "a list": (lambda f: (f / "bundle.json").write_text("[]"), "damaged"),
    "deep JSON": (lambda f: (f / "bundle.json").write_text("[" * 100_000), "damaged"),
    "huge": (lambda f: (f / "bundle.json").write_bytes(b" " * (2 << 20)), "too large"),
    "a threshold": (edit(lambda c: c["thresholds"].update(review=0.1)), "altered"),
    "another format": (edit(lambda c: c.update(format=2)), "reads format 1"),
    "an unknown field": (edit(lambda c: c.update(extra=1)), "unknown field extra"),
    "an unknown field below": (edit(lambda c: c["preprocess"].update(gamma=1)), "field gamma"),
    "a missing field": (edit(lambda c: c.pop("provenance")), "provenance is missing"),
    "a wrong type": (edit(lambda c: c.update(name=3)), "name is not of type"),
    "another order": (edit(lambda c: c["labels"].reverse()), "order of labels"),
    "not finite": (edit(lambda c: c["preprocess"].update(crop_margin=float("nan"))), "not finite"),
    "a path": (edit(lambda c: c["networks"][0].update(weights="../x.safetensors")), "a path"),
    "another UID": (edit(lambda c: c.update(model_uid="2.25.1")), "altered"),
    "half a pair": (edit(lambda c: c["networks"][0].update(role="subtypes")), "belong together"),
    "a wrong rule": (edit(lambda c: c["calibration"].update(series_rule="mode")), "none of"),
}


@pytest.mark.parametrize("what", TAMPERED)
def test_a_bundle_that_was_tampered_with_is_refused(bundle: Path, what: str) -> None:
    """Whatever is altered, loading says what is wrong in one sentence."""
    tamper, sentence = TAMPERED[what]
    tamper(bundle)
    with pytest.raises(ModelUnusable, match=sentence):
        Bundle.load(bundle)


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    """Weights that do not fit the architecture are no model."""
    write_bundle(tmp_path, manifest(), {"joint": build("resnet18_local", 3, 6).state_dict()})
    with pytest.raises(ModelUnusable, match="do not fit"):
        Bundle.load(tmp_path)


def test_weights_that_are_no_safetensors_are_refused(tmp_path: Path) -> None:
    """A pickle in place of the weights is not even looked into."""
    state = build("resnet18_local", 1, 6).state_dict()
    written = write_bundle(tmp_path, manifest(), {"joint": state})
    torch.save(state, tmp_path / "joint.safetensors")
    digest = weights_digest(tmp_path / "joint.safetensors")
    network = dataclasses.replace(written.networks[0], sha256=digest)
    write_manifest(tmp_path, dataclasses.replace(written, networks=(network,)))
    with pytest.raises(ModelUnusable, match="damaged"):
        Bundle.load(tmp_path)


def test_infinite_weights_are_refused(tmp_path: Path) -> None:
    """A network that overflowed float16 is refused when loaded, not when it reads a patient."""
    state = build("resnet18_local", 1, 6).state_dict()
    state["near.weight"][0, 0] = 1e6
    write_bundle(tmp_path, manifest(), {"joint": state})
    with pytest.raises(ModelUnusable, match="not finite"):
        Bundle.load(tmp_path)


def test_an_unknown_architecture_is_refused(tmp_path: Path) -> None:
    """A bundle of a later version says what it lacks here."""
    network = NetworkSpec("joint", "transformer", LABELS, "joint.safetensors", "")
    write_bundle(
        tmp_path,
        manifest(networks=(network,)),
        {"joint": build("resnet18_local", 1, 6).state_dict()},
    )
    with pytest.raises(ModelUnusable, match="needs the architecture 'transformer'"):
        Bundle.load(tmp_path)


def test_a_manifest_that_makes_no_sense_is_not_written(tmp_path: Path) -> None:
    """A review threshold above the urgent one is a mistake of whoever exports."""
    wrong = manifest(thresholds=Thresholds((0.5,) * 6, 0.6, "by hand"))
    with pytest.raises(ValueError, match="review threshold"):
        write_bundle(tmp_path, wrong, {"joint": build("resnet18_local", 1, 6).state_dict()})


def test_folding_batch_normalisation_changes_no_logit() -> None:
    """The folded network has no batch normalisation left and gives the same logits."""
    torch.manual_seed(1)
    network = build("resnet18_local", 2, 6)
    for _ in range(3):
        network(torch.rand(4, 2, 64, 64))  # statistics other than the initial ones
    network.eval()
    images = torch.rand(3, 2, 64, 64)
    before = network(images)
    fold_batch_norm(network)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in network.modules())
    assert torch.allclose(network(images), before, atol=1e-4)


def test_the_registry_needs_no_torch() -> None:
    """Listing models imports neither torch nor numpy: the web and the CLI do it."""
    code = (
        "import sys; from ichnode.nets.registry import Registry; from pathlib import Path;"
        "Registry(Path('nowhere'));"
        "sys.exit(sorted({'torch', 'torchvision', 'numpy'} & set(sys.modules)) or 0)"
    )
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)


def test_a_logit_is_the_mean_of_its_strongest_places() -> None:
    """A bleed is local: three places with evidence decide, however large the rest is."""
    evidence = torch.full((1, 2, 10, 10), -6.0)
    evidence[0, 1, 4, 4:7] = torch.tensor([1.0, 2.0, 3.0])
    assert strongest(evidence)[0].tolist() == [-6.0, 2.0]
    assert strongest(evidence[:, :, :1, :1])[0].tolist() == [-6.0, -6.0]


DRAWING = (NetworkSpec("joint", "compact_mask", LABELS, "joint.safetensors", ""),)
VOLUME = VolumeSpec(
    scale=SIX,
    contour=0.5,
    series=40,
    mean_absolute_error_ml=1.5,
    median_relative_error=0.2,
    limits_ml=(-3.0, 4.0),
    shown=("any", "subdural"),
    how="Measured on simulated heads.",
)


def test_a_bundle_may_say_how_volumes_are_made(tmp_path: Path) -> None:
    """It is read as it was written, and is another model than one without."""
    with_volume = manifest(networks=DRAWING, volume=VOLUME)
    state = build("compact_mask", 1, 6).state_dict()
    written = write_bundle(tmp_path, with_volume, {"joint": state})
    read = Bundle.load(tmp_path).manifest
    assert read == written
    assert read.volume == VOLUME
    assert dataclasses.replace(read, volume=None).model_uid != read.model_uid
    hidden = dataclasses.replace(VOLUME, shown=())
    assert dataclasses.replace(read, volume=hidden).model_uid != read.model_uid
    assert "volume" not in canonical(manifest(networks=DRAWING))


@pytest.mark.parametrize(
    ("networks", "changes"),
    [
        (manifest().networks, {}),
        (DRAWING, {"scale": (1.0, 1.0, 0.0, 1.0, 1.0, 1.0)}),
        (DRAWING, {"contour": 1.0}),
        (DRAWING, {"shown": ("subdural",)}),
        (DRAWING, {"shown": ("subdural", "any")}),
        (DRAWING, {"how": " "}),
    ],
    ids=[
        "a network without masks",
        "no factor",
        "no edge",
        "a kind alone",
        "another order",
        "no method",
    ],
)
def test_a_volume_that_makes_no_sense_is_refused(
    tmp_path: Path, networks: tuple[NetworkSpec, ...], changes: dict[str, Any]
) -> None:
    """When it is written, so that no such bundle comes about."""
    volume = dataclasses.replace(VOLUME, **changes)
    with pytest.raises(ValueError, match="volume makes no sense"):
        write_manifest(tmp_path, manifest(networks=networks, volume=volume))


def test_a_manifest_of_before_stays_what_it_was(tmp_path: Path) -> None:
    """What a manifest may hold since leaves no trace in an older one: same UID, same bytes."""
    shutil.copy(OF_BEFORE, tmp_path / "bundle.json")
    before = read_manifest(tmp_path)
    assert before.model_uid == "2.25.6401936023144928258245685470932950387"
    write_manifest(tmp_path, before)
    assert (tmp_path / "bundle.json").read_bytes() == OF_BEFORE.read_bytes()
    assert "null" not in canonical(before)


def test_the_shipped_manifest_is_written_as_it_was_read(tmp_path: Path) -> None:
    """The same UID, the same bytes."""
    shipped = read_manifest(SHIPPED)
    write_manifest(tmp_path, shipped)
    assert (tmp_path / "bundle.json").read_bytes() == (SHIPPED / "bundle.json").read_bytes()
    assert read_manifest(tmp_path).model_uid == shipped.model_uid


def test_the_shipped_network_says_what_it_always_said() -> None:
    """Its logits are the ones that it was exported with, by `forward` and by its features."""
    bundle = Bundle.load(SHIPPED)
    network = bundle.networks["joint"]
    images = self_test_input(bundle.manifest.preprocess)
    expected = torch.tensor(bundle.manifest.self_test.expected)
    with torch.inference_mode():
        logits = network(images)
        assert torch.equal(network.classify(network.embed(images)), logits)
    assert torch.allclose(logits, expected, atol=2e-4)


def test_terms_that_restrict_are_part_of_the_model(tmp_path: Path) -> None:
    """They are read back, and with them it is another model."""
    plain = manifest()
    marked = dataclasses.replace(
        plain,
        provenance=dataclasses.replace(plain.provenance, restrictions="non-commercial: RSNA terms"),
    )
    write_manifest(tmp_path, marked)
    assert read_manifest(tmp_path) == marked
    assert marked.model_uid != plain.model_uid


@pytest.fixture
def with_context(tmp_path: Path) -> Path:
    write_with_context(tmp_path / "context")
    return tmp_path / "context"


def test_a_context_network_is_read_beside_the_joint_one(with_context: Path) -> None:
    """It fits the features of the joint network, and its blend is part of the model."""
    bundle = Bundle.load(with_context)
    assert set(bundle.networks) == {"joint", "context"}
    assert bundle.networks["context"].feature_width == bundle.networks["joint"].feature_width
    assert bundle.manifest.context == ContextSpec((0.5,) * 6, (0.25,) * 6)
    other = dataclasses.replace(bundle.manifest, context=ContextSpec((0.5,) * 6, (0.5,) * 6))
    assert other.model_uid != bundle.manifest.model_uid


MISFITS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "null": (lambda c: c.update(context=None), "ContextSpec is not an object"),
    "no blend": (lambda c: c.pop("context"), "without its blend"),
    "no expected series": (lambda c: c["self_test"].pop("expected_series"), "without its blend"),
    "no network": (lambda c: c["networks"].pop(), "without it"),
    "a blend above one": (
        lambda c: c["context"].update(slice_blend=[0.5] * 5 + [1.5]),
        "a blend is no share",
    ),
    "a blend too short": (lambda c: c["context"].update(series_blend=[1.0]), "value per label"),
    "a slice network in its place": (
        lambda c: c["networks"][1].update(architecture="resnet18"),
        "needs the architecture 'resnet18' as its context network",
    ),
    "alone": (lambda c: c["networks"].pop(0), "belong together"),
}


@pytest.mark.parametrize("what", MISFITS)
def test_a_context_that_does_not_fit_is_refused(with_context: Path, what: str) -> None:
    """Network, blend and expected series come together or not at all."""
    change, sentence = MISFITS[what]
    edit(change)(with_context)
    with pytest.raises(ModelUnusable, match=sentence):
        Bundle.load(with_context)
