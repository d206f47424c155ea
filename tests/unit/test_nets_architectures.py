"""The family of networks: one interface, and the same answer however they are prepared."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional

from ichnode.nets.architectures import ARCHITECTURES, MaskNetwork, build, fold_batch_norm
from ichnode.nets.backbones import BACKBONES, inflate, trained_backbone
from ichnode.nets.manifest import MASK_ARCHITECTURES, SLICE_ARCHITECTURES
from ichnode.nets.mask_network import COUNTED_CHANCE, soft_area

PLAIN = tuple(BACKBONES)


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand((2, 9, 64, 64), generator=torch.Generator().manual_seed(5))


def lively(architecture: str, images: Tensor) -> nn.Module:
    """A network whose batch normalisation has seen something and whose gains are not all one."""
    torch.manual_seed(2)
    network = build(architecture, images.shape[1], 6)
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d | nn.BatchNorm1d)]
    with torch.no_grad():
        for norm in norms:
            norm.momentum = None  # the mean of all that was seen
            norm.weight.uniform_(0.7, 1.3)
            norm.bias.normal_(0, 0.1)
        network.train()(images)
    return network.eval()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_network_has_one_interface(architecture: str, images: Tensor) -> None:
    """Features have their width, classifying them is the answer, the groups are all there is."""
    torch.manual_seed(1)
    network = build(architecture, 9, 6).eval()
    with torch.inference_mode():
        features = network.embed(images)
        logits = network(images)
        assert features.shape == (2, network.feature_width)
        assert torch.equal(network.classify(features), logits)
        assert logits.shape == (2, 6)
        assert network.activation_maps(images).shape[:2] == (2, 6)
        assert network.maps(images).ndim == 4
    grouped = [p for group in network.groups() for module in group for p in module.parameters()]
    assert len(grouped) == len({id(p) for p in grouped})
    assert {id(p) for p in grouped} == {id(p) for p in network.parameters()}
    assert len(network.groups()) == 3


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_folding_changes_no_logit(architecture: str, images: Tensor) -> None:
    """Whatever stands before and behind its normalisation, the folded network says the same; in
    double precision, so that rounding hides nothing.
    """
    network = lively(architecture, images).double()
    folded = copy.deepcopy(network)
    fold_batch_norm(folded)
    with torch.inference_mode():
        before, after = network(images.double()), folded(images.double())
    assert torch.allclose(before, after, rtol=1e-7, atol=1e-9)
    assert float(before.std()) > 0.001
    left = sum(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    assert left == (62 if architecture.startswith("densenet121") else 0)


@pytest.mark.parametrize("architecture", PLAIN)
def test_a_class_activation_map_adds_up_to_the_logit(architecture: str, images: Tensor) -> None:
    """With the linear head the mean over the places is the logit."""
    network = lively(architecture, images)
    with torch.inference_mode():
        logits, maps = network(images), network.activation_maps(images)
    assert torch.allclose(maps.mean(dim=(2, 3)), logits, atol=1e-4, rtol=1e-4)


def test_the_names_in_a_manifest_are_those_that_can_be_built() -> None:
    """What reading a manifest takes for known, without torch, is what there is."""
    assert set(SLICE_ARCHITECTURES) == set(ARCHITECTURES)


def test_the_concatenating_head_is_fastai_s() -> None:
    """Mean beside maximum, then two layers with normalisation and dropout before each."""
    torch.manual_seed(1)
    network = build("resnet18_concat", 3, 6)
    kinds = [type(layer).__name__ for layer in network.head]
    assert kinds == [
        "BatchNorm1d", "Dropout", "Linear", "ReLU", "BatchNorm1d", "Dropout", "Linear",
    ]  # fmt: skip
    assert [layer.p for layer in network.head if isinstance(layer, nn.Dropout)] == [0.25, 0.5]
    first, last = (layer for layer in network.head if isinstance(layer, nn.Linear))
    assert (first.in_features, first.out_features, first.bias) == (1024, 512, None)
    assert float(first.weight.detach().std()) == pytest.approx((2 / 1024) ** 0.5, rel=0.02)
    assert not last.bias.any()
    network.eval()
    images = torch.rand(2, 3, 64, 64)
    maps = network.maps(images)
    pooled = torch.cat([maps.mean(dim=(2, 3)), maps.amax(dim=(2, 3))], dim=1)
    assert torch.equal(network.embed(images), pooled)


def test_a_first_layer_is_spread_over_the_slices() -> None:
    """Three equal slices make the sums that one made; a single channel gets the mean kernel."""
    kernels = torch.rand(8, 3, 5, 5)
    image = torch.rand(1, 3, 20, 20)
    once = functional.conv2d(image, kernels)
    thrice = functional.conv2d(image.repeat(1, 3, 1, 1), inflate(kernels, 9))
    assert torch.allclose(once, thrice, atol=1e-5)
    grey = image[:, :1]
    single = functional.conv2d(grey, inflate(kernels, 1))
    assert torch.allclose(functional.conv2d(grey.repeat(1, 3, 1, 1), kernels), single, atol=1e-5)
    assert inflate(kernels, 7).shape == (8, 7, 5, 5)


WHOLE: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
    "resnet18": lambda net, maps: net.fc(maps.mean(dim=(2, 3))),
    "resnet50": lambda net, maps: net.fc(maps.mean(dim=(2, 3))),
    "resnet101": lambda net, maps: net.fc(maps.mean(dim=(2, 3))),
    "densenet121": lambda net, maps: net.classifier(maps.mean(dim=(2, 3))),
    "alexnet": lambda net, maps: net.classifier(net.avgpool(maps).flatten(1)),
    "efficientnet_v2_s": lambda net, maps: net.classifier(maps.mean(dim=(2, 3))),
    "convnext_tiny": lambda net, maps: maps,
}


@pytest.mark.parametrize("name", PLAIN)
def test_a_body_with_torchvision_s_weights_is_torchvision_s(name: str) -> None:
    """Cut in two and put together again, the maps are those that its own head was made for; with
    nine channels, three equal slices give them too.
    """
    torch.manual_seed(4)
    whole = torchvision.models.get_model(name, weights=None).eval()
    with torch.no_grad():
        for layer in whole.modules():
            if isinstance(layer, nn.Conv2d) and layer.bias is not None:
                layer.bias.normal_(0, 0.1)
    image = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        expected = whole(image)
        if name == "convnext_tiny":
            expected = whole.classifier[0](whole.features(image))
        for channels in (3, 9):
            body = trained_backbone(name, whole.state_dict(), channels)
            body.early.eval(), body.late.eval()
            maps = body.late(body.early(image.repeat(1, channels // 3, 1, 1)))
            assert maps.shape[1] == body.width
            found = WHOLE[name](whole, maps)
            assert torch.allclose(found, expected, rtol=1e-3, atol=1e-4), channels


@pytest.mark.parametrize(
    "architecture",
    [
        "resnet18_local",
        "resnet18",
        "densenet121_concat",
        "resnet18_mask",
        "compact_mask",
        "medium_mask",
    ],
)
def test_a_network_learns_in_all_its_parts(architecture: str, images: Tensor) -> None:
    """A step backwards reaches every parameter."""
    torch.manual_seed(1)
    network = build(architecture, 9, 6)
    network(images).square().sum().backward()
    untouched = [n for n, p in network.named_parameters() if p.grad is None]
    assert untouched == []


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_those_that_draw_say_how_much_they_drew(architecture: str, images: Tensor) -> None:
    """The area of each label comes out of the same pass as the logits; others have none."""
    torch.manual_seed(1)
    network = build(architecture, 9, 6).eval()
    assert isinstance(network, MaskNetwork) == (architecture in MASK_ARCHITECTURES)
    with torch.inference_mode():
        areas = network.areas(network.embed(images))
        if not isinstance(network, MaskNetwork):
            assert areas is None
            return
        network.draw.bias.fill_(0.5)
        areas, masks = network.areas(network.embed(images)), network.masks(images)
    assert masks.shape == (2, 6, 16, 16)
    assert areas is not None
    assert torch.equal(areas, soft_area(masks))
    assert 0.4 < float(areas.mean()) < 0.8


@pytest.mark.parametrize(
    ("architecture", "most_mb"), [("resnet18_mask", 24), ("compact_mask", 4), ("medium_mask", 13)]
)
def test_a_network_with_masks_is_no_large_file(architecture: str, most_mb: int) -> None:
    """Nine channels, float16, as a bundle keeps it."""
    numbers = sum(t.numel() for t in build(architecture, 9, 6).state_dict().values())
    assert 2 * numbers < most_mb * 1e6


def test_improbable_places_are_no_area() -> None:
    """A head full of small chances would add up to a bleed; the edge of one counts in part."""
    masks = torch.full((1, 1, 4, 4), -3.0)
    assert torch.sigmoid(masks).max() < COUNTED_CHANCE
    assert not soft_area(masks).any()
    masks[..., 0, :2] = torch.tensor([0.0, 20.0])
    assert float(soft_area(masks)) == pytest.approx(1.5 / 16)


@pytest.mark.parametrize("odd_px", [33, 100])
def test_images_of_any_size_can_be_drawn_on(odd_px: int) -> None:
    """Sizes that are no multiple of 32, which a recipe may ask for."""
    network = build("compact_mask", 1, 6).eval()
    with torch.inference_mode():
        seen = network.drawn(torch.rand(1, 1, odd_px, odd_px))
    quarter, sixteenth = -(-odd_px // 4), -(-odd_px // 16)
    assert seen.masks.shape[-2:] == (quarter, quarter)
    assert seen.evidence.shape[-2:] == (sixteenth, sixteenth)
