"""Checkpoints: safetensors files that say which network they hold, so that one file is enough to go on with."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import msgspec
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from pocketface.compression.models.heads import LandmarkNet
from pocketface.compression.models.registry import ModelSpec, build_model, build_network
from pocketface.compression.models.reshape import fit_to_tensors, is_pruned
from pocketface.sdk.errors import WeightsError
from pocketface.sdk.files import os_problem

N = TypeVar("N", bound=nn.Module)

KEY = "pocketface"
"""Of the safetensors metadata; its value is JSON."""


class _Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a checkpoint says of itself."""

    schema: int = 1
    model: ModelSpec
    points: int
    classes: int | msgspec.UnsetType = msgspec.UNSET
    """Of a mask network; not written for others, so that older releases still read them."""
    pruned: bool | msgspec.UnsetType = msgspec.UNSET
    """Whether layers have fewer channels than ``model`` says; not written for others."""


def save_network(net: nn.Module, path: Path, spec: ModelSpec) -> None:
    """Write a network's tensors and what they belong to, atomically.

    Raises:
        EnvironmentProblemError: the disk is full or not writable.
    """
    partial = path.with_name(path.name + ".partial")
    header = _Header(
        model=_from_scratch(spec),
        points=getattr(net, "n_points", 0),
        classes=getattr(net, "n_classes", msgspec.UNSET),
        pruned=is_pruned(net) or msgspec.UNSET,
    )
    tensors = {name: tensor.contiguous() for name, tensor in net.state_dict().items()}
    written = msgspec.to_builtins(header)
    if not spec.options:
        del written["model"]["options"]  # as `_Header.classes`
    try:
        save_file(tensors, partial, metadata={KEY: msgspec.json.encode(written).decode()})
        partial.chmod(0o644)  # it comes readable by its owner only
        partial.replace(path)
    except OSError as error:
        raise os_problem(error, path) from error


def load_network(spec: ModelSpec, path: Path, *, n_points: int) -> LandmarkNet:
    """Build a landmark network and load what ``save_network`` wrote; in evaluation mode, channels last in memory."""
    return _loaded(build_model(_from_scratch(spec), n_points=n_points), path)


def load_stage_network(spec: ModelSpec, path: Path, *, n_points: int = 0, n_classes: int = 0) -> nn.Module:
    """``load_network`` for a network of any task; ``n_points`` or ``n_classes``, whichever it has."""
    return _loaded(build_network(_from_scratch(spec), n_points=n_points, n_classes=n_classes), path)


def _from_scratch(spec: ModelSpec) -> ModelSpec:
    """The same network without the pretrained weights that its own ones replace."""
    return msgspec.structs.replace(spec, init="scratch")


def _loaded(net: N, path: Path) -> N:
    tensors = load_file(path)
    with safe_open(path, "pt") as file:
        written = (file.metadata() or {}).get(KEY, "{}")
    if msgspec.json.decode(written).get("pruned"):
        fit_to_tensors(net, tensors)
    net.load_state_dict(tensors)
    return channels_last(net).eval()


def load_checkpoint(path: Path) -> nn.Module:
    """The network of a checkpoint file, which says itself what it holds.

    Raises:
        WeightsError: it is no safetensors file, does not say which network it holds, or its tensors do not fit that
            network.
    """
    try:
        with safe_open(path, "pt") as file:
            written = (file.metadata() or {}).get(KEY)
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path} is no readable safetensors file ({error})", next="Write it again") from error
    if written is None:
        raise WeightsError(
            f"{path} does not say which network it holds",
            expected=f"metadata {KEY!r}",
            next="Take RUN/student.safetensors, which pocketface compress writes; a run that is done writes it at once",
        )
    try:
        header = msgspec.json.decode(written, type=_Header)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise WeightsError(f"{path}: its header is damaged ({error})", next="Write it again") from error
    try:
        classes = 0 if header.classes is msgspec.UNSET else header.classes
        return load_stage_network(header.model, path, n_points=header.points, n_classes=classes)
    except RuntimeError as error:  # torch's only error for tensors that do not fit
        first: Any = str(error).strip().splitlines()
        raise WeightsError(f"{path} does not fit {header.model.name}: {' '.join(first[:2])}") from error


def channels_last(net: N) -> N:
    """Weights with the channels last in memory: convolutions are about twice as fast on a CPU."""
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
