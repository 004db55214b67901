"""A tiny landmark network and what it is converted to, for the tests of converters/ and compression/quantize/.

Conversions take seconds, so each is made once a test run, in a folder that goes away with it. Nothing may change these
files: copy them first.
"""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pocketface.converters.formats.base import Exported
from pocketface.converters.formats.registry import EXPORTERS
from pocketface.converters.pixels import PixelInput

SIZE, POINTS = 32, 68
MEAN, STD = (127.0, 120.0, 110.0), (64.0, 60.0, 50.0)
"""Of the network that takes pixels."""


def _block(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU6())


class TinyNet(nn.Module):
    """Convolutions, a depthwise one, a shortcut, average pooling and two heads: what the real networks are made of."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            _block(3, 16, 3, stride=2),
            _block(16, 16, 3, groups=16),
            _block(16, 64, 1),
            _block(64, 64, 3, stride=2, groups=64),
            _block(64, 128, 1),
        )
        self.points = nn.Linear(128, 2 * POINTS)
        self.score = nn.Linear(128, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        for number, block in enumerate(self.features):
            y = block(x)
            x = x + y if number == 1 else y
        pooled = x.mean((2, 3))
        return self.points(pooled).reshape(-1, POINTS, 2), self.score(pooled).squeeze(1)


@functools.cache
def tiny_net() -> TinyNet:
    """The network, in evaluation mode, with batch-norm statistics of its own and points around a ring."""
    generator = torch.Generator().manual_seed(3)
    net = TinyNet()
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.ndim > 1:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * (2 / parameter[0].numel()) ** 0.5)
        net.train()
        for _ in range(20):
            net(torch.randn(16, 3, SIZE, SIZE, generator=generator))
        turn = torch.arange(POINTS) * (2 * torch.pi / POINTS)
        net.points.weight.mul_(0.02)
        net.score.bias.fill_(0.05)
        net.points.bias.copy_(torch.stack([0.3 * turn.cos(), 0.35 * turn.sin()], 1).reshape(-1))
    return net.eval()


@functools.cache
def inputs(count: int, seed: int = 0) -> NDArray[np.float32]:
    """(count, 3, SIZE, SIZE) float32 in about [-2, 2]: smooth random pictures."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(size=(count, 3, 4, 4)).astype(np.float32)
    fine = np.repeat(np.repeat(coarse, SIZE // 4, axis=2), SIZE // 4, axis=3)
    images: NDArray[np.float32] = fine + rng.normal(0, 0.2, fine.shape).astype(np.float32)
    images.setflags(write=False)
    return images


def torch_outputs(images: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(N, POINTS, 2) and (N,), in one batch."""
    with torch.no_grad():
        points, score = tiny_net()(torch.from_numpy(images.copy()))
    return points.numpy(), score.numpy()


def exported(format: str, precision: str = "fp32") -> Exported:
    """The tiny network in one format."""
    return _exported(format, precision, False)


def pixel_exported(format: str, precision: str = "fp32") -> Exported:
    """The tiny network that takes uint8 pixels, in one format."""
    return _exported(format, precision, True)


@functools.cache
def pixel_net() -> PixelInput:
    """The tiny network with its normalisation inside; its first convolution pads, so as a multiply-add."""
    return PixelInput(tiny_net(), MEAN, STD, size=SIZE)


@functools.cache
def pixel_inputs(count: int, seed: int = 0) -> NDArray[np.uint8]:
    """(count, 3, SIZE, SIZE) uint8: the pictures of ``inputs``, as pixels."""
    mean, std = (np.array(values, np.float32).reshape(1, 3, 1, 1) for values in (MEAN, STD))
    images: NDArray[np.uint8] = np.rint(inputs(count, seed) * std + mean).clip(0, 255).astype(np.uint8)
    images.setflags(write=False)
    return images


@functools.cache
def _exported(format: str, precision: str, pixels: bool) -> Exported:
    exporter = EXPORTERS[format]
    fp32 = _exported(format, "fp32", pixels) if precision != "fp32" else None
    path = _folder() / f"{'pixels' if pixels else 'tiny'}.{precision}{exporter.suffix}"
    net = pixel_net() if pixels else tiny_net()
    result: Exported = exporter.export(net, precision=precision, path=path, input_size=SIZE, fp32=fp32)
    return result


@functools.cache
def _folder() -> Path:
    folder = tempfile.mkdtemp(prefix="pocketface-tests-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)
