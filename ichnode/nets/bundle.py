"""The model bundle: ``bundle.json`` and safetensors weights in one immutable folder."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from ichnode.domain.errors import ModelUnusable
from ichnode.nets.architectures import SliceNetwork, build
from ichnode.nets.context import build_context
from ichnode.nets.manifest import Manifest, NetworkSpec
from ichnode.nets.manifest_file import read_manifest, verify_weights, weights_digest, write_manifest


@dataclass(frozen=True, slots=True)
class Bundle:
    """A model that was read whole and unaltered.

    Attributes
    ----------
    networks : mapping of str to Module
        By role, float32, in evaluation mode: "joint" or "hemorrhage" and "subtypes", each a
        `SliceNetwork`, and beside "joint" there may be "context", a `ContextNet`.
    """

    manifest: Manifest
    networks: Mapping[str, nn.Module]

    @classmethod
    def load(cls, folder: Path) -> Bundle:
        """Read a bundle; nothing in it is executed or unpickled.

        Raises
        ------
        ModelUnusable
            When it is missing, altered, or not one that this version understands.
        """
        manifest = read_manifest(folder)
        verify_weights(folder, manifest)
        networks: dict[str, nn.Module] = {}
        for spec in sorted(manifest.networks, key=lambda n: n.role == "context"):
            with torch.device("meta"):  # no time for random weights that are replaced at once
                empty = _empty(spec, manifest.preprocess.channels, networks)
            networks[spec.role] = _filled(empty, folder, spec)
        return cls(manifest=manifest, networks=networks)


def _empty(spec: NetworkSpec, in_channels: int, others: Mapping[str, nn.Module]) -> nn.Module:
    if spec.role != "context":
        return build(spec.architecture, in_channels, len(spec.labels))
    joint = others["joint"]
    if not isinstance(joint, SliceNetwork):
        raise TypeError("a context network reads the features of a slice network")
    return build_context(spec.architecture, joint.feature_width)


def _filled(network: nn.Module, folder: Path, spec: NetworkSpec) -> nn.Module:
    try:
        stored = load_tensors((folder / spec.weights).read_bytes())
        network.load_state_dict({name: t.float() for name, t in stored.items()}, assign=True)
    except (OSError, SafetensorError) as error:
        raise ModelUnusable(f"The weights of the model {folder.name} are damaged.") from error
    except (ValueError, RuntimeError, KeyError) as error:
        raise ModelUnusable(
            f"The weights of the model {folder.name} do not fit its architecture."
        ) from error
    if not all(bool(torch.isfinite(t).all()) for t in network.state_dict().values()):
        raise ModelUnusable(f"The weights of the model {folder.name} are not finite.")
    return network.eval()


def write_weights(folder: Path, file: str, state: Mapping[str, Tensor]) -> str:
    """Write weights as float16 safetensors and return the file's sha256."""
    halved = {
        name: (t.half() if t.is_floating_point() else t).contiguous().cpu()
        for name, t in state.items()
        if not name.endswith("num_batches_tracked")
    }
    (folder / file).write_bytes(save_tensors(halved))
    return weights_digest(folder / file)


def write_bundle(
    folder: Path, manifest: Manifest, states: Mapping[str, Mapping[str, Tensor]]
) -> Manifest:
    """Write a bundle and return its manifest with the weights' digests filled in.

    Parameters
    ----------
    folder : Path
        Created where it is missing.
    manifest : Manifest
        The digests in it are replaced.
    states : mapping
        By role, the network's state dictionary.
    """
    folder.mkdir(parents=True, exist_ok=True)
    networks = tuple(
        dataclasses.replace(spec, sha256=write_weights(folder, spec.weights, states[spec.role]))
        for spec in manifest.networks
    )
    whole = dataclasses.replace(manifest, networks=networks)
    write_manifest(folder, whole)
    return whole
