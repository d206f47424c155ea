"""Which weights learn, how fast, and what moves although nothing should."""

from __future__ import annotations

import hashlib

import pytest
import torch

from ichnode.nets.architectures import SliceNetwork, build
from train.learn.groups import freeze, keep_pace, make_optimizer, set_modes
from train.learn.recipe import Recipe
from train.learn.schedule import pace


def digest(network: SliceNetwork, *, buffers: bool, body: bool = True) -> str:
    """The sha256 of the body's buffers, or of its parameters."""
    whole = hashlib.sha256()
    for modules in network.groups()[:-1] if body else network.groups()[-1:]:
        for module in modules:
            for tensor in module.buffers() if buffers else module.parameters():
                whole.update(tensor.detach().numpy().tobytes())
    return whole.hexdigest()


def one_step(network: SliceNetwork, recipe: Recipe, *, frozen: bool) -> None:
    """Learn from one batch of noise."""
    optimizer = make_optimizer(network, recipe)
    keep_pace(optimizer, pace(recipe, 0.25))
    freeze(network, recipe, frozen=frozen)
    set_modes(network, recipe, frozen=frozen)
    images = torch.rand(4, 9, 32, 32, generator=torch.Generator().manual_seed(1))
    network(images).square().mean().backward()
    optimizer.step()


@pytest.mark.parametrize("architecture", ["resnet18", "resnet18_concat", "resnet18_local"])
def test_every_weight_is_in_one_group_and_norm_and_bias_do_not_decay(architecture: str) -> None:
    """Three groups of layers, each with and without decay; vectors are without."""
    network = build(architecture, 9, 6)
    optimizer = make_optimizer(network, Recipe(weight_decay=0.01))
    listed = [p for group in optimizer.param_groups for p in group["params"]]
    assert len(listed) == len({id(p) for p in listed}) == len(list(network.parameters()))
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.01, 0.0] * 3
    for group in optimizer.param_groups:
        assert all((p.ndim > 1) == (group["weight_decay"] > 0) for p in group["params"])


def test_decay_is_decoupled_from_the_gradient() -> None:
    """With no gradient, a weight shrinks by rate times decay and a bias stays."""
    network = build("resnet18", 3, 6)
    optimizer = make_optimizer(network, Recipe(peak_rate=0.1, weight_decay=0.5))
    last = network.head[-1]
    torch.nn.init.ones_(last.bias)
    before = last.weight.detach().clone()
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    torch.testing.assert_close(last.weight.detach(), before * (1 - 0.1 * 0.5))
    assert torch.equal(last.bias, torch.ones(6))


def test_the_optimizer_is_fastais_adam() -> None:
    """Momenta and epsilon are not torch's defaults."""
    optimizer = make_optimizer(build("resnet18", 3, 6), Recipe())
    assert optimizer.param_groups[0]["betas"] == (0.95, 0.99)
    assert optimizer.param_groups[0]["eps"] == 1e-5


def test_rates_and_momentum_reach_their_groups() -> None:
    """Early body, late body and head each have their own rate."""
    recipe = Recipe(peak_rate=1e-3, rate_spread=100.0)
    optimizer = make_optimizer(build("resnet18", 3, 6), recipe)
    keep_pace(optimizer, pace(recipe, 0.25))
    found = [group["lr"] for group in optimizer.param_groups]
    assert found == pytest.approx([1e-5, 1e-5, 1e-4, 1e-4, 1e-3, 1e-3])
    assert {group["betas"] for group in optimizer.param_groups} == {(0.85, 0.99)}


def test_a_frozen_body_whose_normalisation_goes_on() -> None:
    """As in the paper: convolutions stay, scales, shifts and statistics follow the data."""
    network, recipe = build("resnet18", 9, 6), Recipe(frozen_epochs=1)
    norm, convolution = network.early[1], network.early[0]
    before = (norm.weight.detach().clone(), convolution.weight.detach().clone())
    buffers = digest(network, buffers=True)
    one_step(network, recipe, frozen=True)
    assert not torch.equal(norm.weight, before[0])
    assert torch.equal(convolution.weight, before[1])
    assert digest(network, buffers=True) != buffers


def test_a_frozen_body_that_does_not_move_by_a_bit() -> None:
    """Without both knobs the digests of all weights and buffers stay; the head learns."""
    network = build("resnet18", 9, 6)
    recipe = Recipe(frozen_epochs=1, bn_affine=False, bn_stats=False)
    before = digest(network, buffers=True), digest(network, buffers=False)
    head = digest(network, buffers=False, body=False)
    one_step(network, recipe, frozen=True)
    assert (digest(network, buffers=True), digest(network, buffers=False)) == before
    assert digest(network, buffers=False, body=False) != head


def test_statistics_move_without_gradients_unless_told_not_to() -> None:
    """The trap: freezing weights alone leaves the running statistics drifting."""
    network = build("resnet18", 9, 6)
    before = digest(network, buffers=True)
    one_step(network, Recipe(bn_affine=False, bn_stats=True), frozen=True)
    assert digest(network, buffers=True) != before


def test_a_thawed_network_learns_everywhere() -> None:
    """After the frozen part every weight has a gradient."""
    network, recipe = build("resnet18", 9, 6), Recipe()
    freeze(network, recipe, frozen=True)
    one_step(network, recipe, frozen=False)
    assert all(p.requires_grad and p.grad is not None for p in network.parameters())
