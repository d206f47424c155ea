"""The network over the series: padding, order, and where a slice is."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ichnode.nets.context import ContextNet, build_context, places_of

WIDTH = 12


@pytest.fixture(scope="module")
def network() -> ContextNet:
    torch.manual_seed(3)
    return ContextNet(WIDTH, hidden=8, layers=2).eval()


def series(length: int, seed: int) -> tuple[Tensor, Tensor]:
    """Features and places of one series."""
    chance = torch.Generator().manual_seed(seed)
    features = torch.randn((length, WIDTH), generator=chance)
    return features, places_of([5.0 * index for index in range(length)])


def padded(items: list[tuple[Tensor, Tensor]], length: int, filler: float) -> tuple[Tensor, ...]:
    """Several series as one batch, with something in the padding."""
    features = torch.full((len(items), length, WIDTH), filler)
    places = torch.full((len(items), length, 2), filler)
    present = torch.zeros((len(items), length), dtype=torch.bool)
    for row, (own, where) in enumerate(items):
        features[row, : len(own)], places[row, : len(own)] = own, where
        present[row, : len(own)] = True
    return features, places, present


@pytest.mark.parametrize("filler", [0.0, 7.0, float("nan")])
def test_padding_changes_nothing(network: ContextNet, filler: float) -> None:
    """A series alone and beside longer ones gives the same logits, whatever is in the padding."""
    items = [series(5, 1), series(9, 2), series(1, 3)]
    together = network(*padded(items, 11, filler))
    for row, item in enumerate(items):
        length = len(item[0])
        alone = network(*padded([item], length, 0.0))
        assert torch.allclose(alone.slices[0], together.slices[row, :length], atol=1e-6)
        assert torch.allclose(alone.series[0], together.series[row], atol=1e-6)
        assert torch.allclose(alone.weak[0], together.weak[row], atol=1e-6)


def test_a_slice_is_read_in_the_light_of_all_others(network: ContextNet) -> None:
    """The last slice changes what is said of the first, and the first what is said of the last."""
    features, places = series(7, 4)
    present = torch.ones((1, 7), dtype=torch.bool)
    before = network(features[None], places[None], present).slices[0]
    for changed, watched in ((6, 0), (0, 6)):
        other = features.clone()
        other[changed] *= -1
        after = network(other[None], places[None], present).slices[0]
        assert not torch.allclose(before[watched], after[watched], atol=1e-5)


def test_order_matters_to_the_series_and_not_to_the_weak_head(network: ContextNet) -> None:
    """Upside down the shapes are the same; only the head that looks at slices one by one, with
    their places going along, says the same.
    """
    features, places = series(7, 5)
    present = torch.ones((1, 7), dtype=torch.bool)
    upright = network(features[None], places[None], present)
    turned = network(features.flip(0)[None], places.flip(0)[None], present)
    assert [part.shape for part in turned] == [part.shape for part in upright]
    assert torch.allclose(upright.weak, turned.weak, atol=1e-6)
    assert not torch.allclose(upright.series, turned.series, atol=1e-4)


def test_every_parameter_learns() -> None:
    """Slices, series and weak head together reach all weights."""
    torch.manual_seed(3)
    network = ContextNet(WIDTH, hidden=8, layers=1)
    found = network(*padded([series(5, 1), series(3, 2)], 5, 0.0))
    (found.slices[:, :3].square().sum() + found.series.sum() + found.weak.sum()).backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []


def test_the_name_says_the_size(network: ContextNet) -> None:
    """A network is built again from its name and the width of the features."""
    again = build_context(network.architecture, WIDTH)
    assert network.architecture == "bigru_8x2"
    assert {k: v.shape for k, v in again.state_dict().items()} == {
        k: v.shape for k, v in network.state_dict().items()
    }
    assert build_context(ContextNet(4).architecture, 4).recurrent.hidden_size == 256
    for wrong in ("bigru_0x2", "bigru_8x9", "lstm_8x2", "bigru_8x2 "):
        with pytest.raises(KeyError):
            build_context(wrong, WIDTH)


def test_where_a_slice_is() -> None:
    """From feet to head 0 to 1; the distance to the last in 5 mm, at most three; one is middle."""
    found = places_of([0.0, 5.0, 7.5, 47.5])
    assert found.dtype is torch.float32
    assert found[:, 0].tolist() == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert found[:, 1].tolist() == pytest.approx([1.0, 1.0, 0.5, 3.0])
    assert places_of([-20.0]).tolist() == [[0.5, 1.0]]
