"""Tiny networks of a chain's three tasks, what they are converted to, and a bundle of them.

As in tests/tiny_export.py: conversions are made once a test run, and nothing may change their files.
"""

from __future__ import annotations

import atexit
import functools
import hashlib
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bundle_factory import picture
from numpy.typing import NDArray
from torch import Tensor, nn

from pocketface.converters.bundle import Candidate, StageFiles, write_bundle
from pocketface.converters.formats.base import Exported
from pocketface.converters.formats.registry import EXPORTERS
from pocketface.converters.parity import References, Run, measure
from pocketface.converters.reference import golden_case, golden_references, references, torch_run
from pocketface.sdk.geometry import Box
from pocketface.sdk.manifest import DataSource, OutputSpec, Preprocess, Provenance, Stage, TensorSpec
from pocketface.sdk.schemes import load_scheme

POINTS = 68
SIZES = {"relocalize": 16, "uniformize": 32, "landmarks": 32}
BOX = Box(20, 8, 71, 59)
GREY = (127.5, 127.5, 127.5)


class TinyR(nn.Module):
    """A box correction near (0.05, -0.03, 0.9, 1.1)."""

    task, output_names = "relocalize", ("box",)

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 3, 2, 1), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (0.1 * self.head(self.conv(x).relu().mean((2, 3))) + torch.tensor([0.05, -0.03, 0.9, 1.1]),)


class TinyU(nn.Module):
    """A picture of the same size in [0, 1]."""

    task, output_names = "uniformize", ("picture",)

    def __init__(self) -> None:
        super().__init__()
        self.down, self.out = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 3, 3, 1, 1)
        self.up = nn.Upsample(scale_factor=2, mode="nearest")

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (torch.sigmoid(self.out(self.up(self.down(x).relu())) + x),)


class TinyL(nn.Module):
    """Landmarks around a ring, and a head pose."""

    task, output_names = "landmarks", ("points", "pose")

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.points, self.pose = nn.Conv2d(3, 16, 3, 2, 1), nn.Linear(16, 2 * POINTS), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        pooled = self.conv(x).relu().mean((2, 3))
        return self.points(pooled).reshape(-1, POINTS, 2), self.pose(pooled)


NETWORKS: dict[str, type[nn.Module]] = {"relocalize": TinyR, "uniformize": TinyU, "landmarks": TinyL}


@functools.cache
def net(name: str) -> nn.Module:
    """The network of a stage, in evaluation mode."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        made = NETWORKS[name]().eval()
    if isinstance(made, TinyL):
        with torch.no_grad():
            turn = torch.arange(POINTS) * (2 * torch.pi / POINTS)
            made.points.bias.copy_(torch.stack([0.3 * turn.cos(), 0.35 * turn.sin()], 1).reshape(-1))
    return made


def run_of(name: str) -> Run:
    return torch_run(net(name))


@functools.cache
def stage(name: str) -> Stage:
    """Without variants."""
    size = SIZES[name]
    outputs: dict[str, tuple[OutputSpec, ...]] = {
        "relocalize": (OutputSpec(name="box", shape=(1, 4), decode="box_correction"),),
        "uniformize": (OutputSpec(name="picture", shape=(1, 3, size, size), decode="unit_image"),),
        "landmarks": (
            OutputSpec(name="points", shape=(1, POINTS, 2), decode="normalised_points"),
            OutputSpec(name="pose", shape=(1, 3), decode="head_pose"),
        ),
    }
    return Stage(
        name=name,
        task=name,  # type: ignore[arg-type]
        preprocess=Preprocess(size=size, mean=GREY, std=GREY),
        inputs=(TensorSpec(name="image", shape=(1, 3, size, size)),),
        outputs=outputs[name],
        scheme=load_scheme("ibug68") if name == "landmarks" else None,
        parameters=sum(parameter.numel() for parameter in net(name).parameters()),
        flops=0,
        variants=(),
    )


def stages() -> list[Stage]:
    return [stage(name) for name in NETWORKS]


def exported(name: str, format: str = "onnx", precision: str = "fp32") -> Exported:
    """The network of a stage in one format."""
    return _exported(name, format, precision)


@functools.cache
def _exported(name: str, format: str, precision: str) -> Exported:
    exporter = EXPORTERS[format]
    fp32 = exported(name, format) if precision != "fp32" else None
    path = _folder() / f"{name}.{precision}{exporter.suffix}"
    made: Exported = exporter.export(net(name), precision=precision, path=path, input_size=SIZES[name], fp32=fp32)
    return made


@functools.cache
def golden() -> list[Mapping[str, NDArray[Any]]]:
    """Two cases of the whole chain."""
    runs = {name: run_of(name) for name in NETWORKS}
    return [golden_case(runs, picture(seed=seed), BOX, stages()) for seed in range(2)]


@functools.cache
def judged(name: str) -> References:
    """Inputs with a truth near what the network says."""
    size, rng = SIZES[name], np.random.default_rng(3)
    images = rng.uniform(-1, 1, (4, 3, size, size)).astype(np.float32)
    found = references(run_of(name), images, stage=stage(name))
    noise = rng.normal(0, 0.02, found.main.shape).astype(np.float32)
    return references(run_of(name), images, found.main + noise, stage=stage(name))


def candidate(name: str, format: str = "onnx", precision: str = "fp32") -> Candidate:
    """The file of a stage with its comparison."""
    return _candidate(name, format, precision)


@functools.cache
def _candidate(name: str, format: str, precision: str) -> Candidate:
    item = exported(name, format, precision)
    reference = golden_references(golden(), stage(name), list(NETWORKS).index(name))
    return Candidate(item, measure(item, golden=reference, faces=judged(name)))


def write(out: Path, files: Mapping[str, list[Candidate]] | None = None, **changes: Any) -> Path:
    """``write_bundle`` of the chain; by default of its fp32 ONNX files."""
    chosen = files or {name: [candidate(name)] for name in NETWORKS}
    recipe = "name: chain\n"
    settings: dict[str, Any] = {
        "name": "chain",
        "default": "fp32.onnx",
        "golden": golden(),
        "card": "# chain\n",
        "provenance": Provenance(
            recipe=recipe,
            recipe_sha256=hashlib.sha256(recipe.encode()).hexdigest(),
            data=(DataSource(name="none", split="train", faces=1, sha256="0" * 64, licence="CC0-1.0"),),
            tools={},
        ),
        "weights_licence": "CC0-1.0",
        **changes,
    }
    return write_bundle(out, stages=[StageFiles(stage(name), items) for name, items in chosen.items()], **settings)


@functools.cache
def _folder() -> Path:
    folder = tempfile.mkdtemp(prefix="pocketface-tests-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)
