"""Weights to start from: by file, from what was fetched before, and what is said when neither."""

from __future__ import annotations

import pickle
import re
import socket
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor

from ichnode.domain.errors import ModelUnusable
from ichnode.nets import pretrained
from ichnode.nets.architectures import build, load_pretrained
from ichnode.nets.backbones import trained_backbone

State = dict[str, Tensor]


@pytest.fixture(scope="module")
def state() -> State:
    torch.manual_seed(6)
    return torchvision.models.resnet18(weights=None).state_dict()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """An empty folder of fetched weights, and a network behind a proxy of the test's choice."""

    def behind(proxy: str) -> Path:
        monkeypatch.setenv("TORCH_HOME", str(tmp_path))
        for name in ("https_proxy", "HTTPS_PROXY"):
            monkeypatch.setenv(name, proxy)
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(urllib.request, "_opener", None)  # it keeps the proxies it first saw
        return tmp_path / "hub" / "checkpoints"

    return behind


def save_pth(state: State, path: Path) -> Path:
    torch.save(state, path.with_suffix(".pth"))
    return path.with_suffix(".pth")


def save_safetensors(state: State, path: Path) -> Path:
    save_file(state, path.with_suffix(".safetensors"))
    return path.with_suffix(".safetensors")


@pytest.mark.parametrize("save", [save_pth, save_safetensors])
@pytest.mark.parametrize(
    "architecture", ["resnet18", "resnet18_concat", "resnet18_local", "resnet18_mask"]
)
def test_a_file_gives_the_body_its_weights(
    tmp_path: Path, state: State, save: Callable[[State, Path], Path], architecture: str
) -> None:
    """The body is the file's, its first layer spread over nine channels; the head is untouched."""
    torch.manual_seed(7)
    network = build(architecture, 9, 6)
    head = [p.clone() for module in network.groups()[-1] for p in module.parameters()]
    origin = load_pretrained(network, save(state, tmp_path / "weights"))
    given = trained_backbone("resnet18", state, 9)
    images = torch.rand(2, 9, 64, 64)
    network.eval(), given.early.eval(), given.late.eval()
    with torch.inference_mode():
        assert torch.equal(network.maps(images), given.late(given.early(images)))
    after = [p for module in network.groups()[-1] for p in module.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(head, after, strict=True))
    assert origin.non_commercial
    assert "non-commercial" in origin.licence


def test_the_digest_is_of_the_weights_and_not_of_the_file(tmp_path: Path, state: State) -> None:
    """The same weights in two formats are the same weights; one value more is another."""
    one = load_pretrained(build("resnet18", 3, 6), save_pth(state, tmp_path / "a"))
    two = load_pretrained(build("resnet18", 3, 6), save_safetensors(state, tmp_path / "b"))
    assert one.digest == two.digest
    assert one.name == "a.pth"
    changed = state | {"conv1.weight": state["conv1.weight"] + 1}
    assert pretrained.digest(changed) != one.digest


def test_densenet_s_files_have_older_names(state: State) -> None:
    """The keys of torchvision's DenseNet files are understood as torchvision does."""
    torch.manual_seed(8)
    today = torchvision.models.densenet121(weights=None).state_dict()
    older = {re.sub(r"(norm|conv)(\d)\.", r"\1.\2.", k) if "layer" in k else k: t
             for k, t in today.items()}  # fmt: skip
    assert "features.denseblock1.denselayer1.norm.1.weight" in older
    body = trained_backbone("densenet121", older, 3)
    assert torch.equal(
        body.early[4].denselayer1.norm1.weight,
        today["features.denseblock1.denselayer1.norm1.weight"],
    )


def other_network(folder: Path) -> Path:
    return save_pth(torchvision.models.alexnet(weights=None).state_dict(), folder / "other")


def text(folder: Path) -> Path:
    (folder / "text.pth").write_text("no weights")
    return folder / "text.pth"


def half(folder: Path) -> Path:
    path = save_safetensors({"conv1.weight": torch.zeros(2)}, folder / "half")
    path.write_bytes(path.read_bytes()[:20])
    return path


class Code:
    """Something that would run when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return (pytest.fail, ("the file was executed",))


def code(folder: Path) -> Path:
    (folder / "code.pth").write_bytes(pickle.dumps(Code(), protocol=2))
    return folder / "code.pth"


def no_tensors(folder: Path) -> Path:
    torch.save({"epoch": 3}, folder / "run.pth")
    return folder / "run.pth"


UNUSABLE: dict[str, tuple[Callable[[Path], Path], str]] = {
    "of another network": (other_network, "not the weights of torchvision's resnet18"),
    "text": (text, "no state dictionary"),
    "cut short": (half, "no state dictionary"),
    "code": (code, "no state dictionary"),
    "no tensors": (no_tensors, "tensors alone"),
    "missing": (lambda folder: folder / "nothing.pth", "cannot be read"),
}


@pytest.mark.parametrize("what", UNUSABLE)
def test_a_file_that_is_no_such_weights_is_refused(tmp_path: Path, what: str) -> None:
    """One sentence says what is wrong with it, and nothing in it is executed."""
    make, sentence = UNUSABLE[what]
    with pytest.raises(ModelUnusable, match=sentence):
        load_pretrained(build("resnet18", 9, 6), make(tmp_path))


def test_without_a_network_the_message_says_what_to_fetch(hub: Callable[[str], Path]) -> None:
    """Which file, and which option to give then."""
    hub("http://127.0.0.1:9")  # nobody listens there
    with pytest.raises(
        ModelUnusable, match=r"fetch https://\S+resnet18-\w+\.pth .*`--weights FILE`"
    ):
        load_pretrained(build("resnet18", 9, 6))


def test_a_network_that_stays_silent_is_not_waited_for(
    hub: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy that accepts and says nothing costs the patience that we have, and not for ever."""
    monkeypatch.setattr(pretrained, "PATIENCE_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hub(f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(ModelUnusable, match="cannot be downloaded"):
            load_pretrained(build("resnet18", 9, 6))
    assert socket.getdefaulttimeout() is None


def test_what_was_fetched_before_needs_no_network(hub: Callable[[str], Path], state: State) -> None:
    """Torchvision's own folder is looked into first."""
    folder = hub("http://127.0.0.1:9")
    folder.mkdir(parents=True)
    url = torchvision.models.get_model_weights("resnet18").DEFAULT.url
    torch.save(state, folder / url.rsplit("/", 1)[1])
    origin = load_pretrained(build("resnet18", 9, 6))
    assert origin.name == "torchvision ResNet18_Weights.IMAGENET1K_V1"


def test_a_body_of_our_own_has_no_weights_to_start_from(tmp_path: Path, state: State) -> None:
    """One sentence says so and what to give, whether a file was named or not."""
    network = build("compact_mask", 3, 6)
    for source in (None, save_pth(state, tmp_path / "body")):
        with pytest.raises(ModelUnusable, match="--weights none"):
            load_pretrained(network, source)
