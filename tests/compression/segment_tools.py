"""What the tests of the segmentation networks share."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pocketface.compression.models.registry import SEGMENT_MODELS
from pocketface.compression.models.segment_blocks import SegmentNet
from pocketface.converters.formats.registry import EXPORTERS


def made(name: str, *, n_classes: int = 3, width: float = 0.25, input_size: int = 64, **options: Any) -> SegmentNet:
    """A registered network with random weights, the same each time."""
    torch.manual_seed(0)
    net: SegmentNet = SEGMENT_MODELS[name](n_classes=n_classes, width=width, input_size=input_size, **options)
    return net


def pictures(count: int, size: int, seed: int = 0) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def lively(net: SegmentNet) -> SegmentNet:
    """The network in evaluation mode, after its batch norm has seen pictures, with a head and a memory that matter."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        net.train()
        for seed in range(2):
            net.maps(pictures(4, net.input_size, seed))
        for name, module in net.named_modules():
            if isinstance(module, nn.Conv2d) and name.endswith(("logits", "prior", "remember.conv")):
                module.weight.copy_(0.3 * torch.randn(module.weight.shape, generator=generator))
    return net.eval()


class SmallTrunk(nn.Module):
    """One convolution a scale, with a real trunk's channels: exporting it takes a tenth of the time. That the real ones
    export is tested with the landmark networks they are from.
    """

    def __init__(self, channels: tuple[int, ...], strides: tuple[int, ...]) -> None:
        super().__init__()
        self.stem, self.first = nn.Conv2d(3, 32, 3, 2, 1), nn.Conv2d(32, channels[0], 1)
        self.layers = nn.ModuleList(
            nn.Conv2d(inputs, outputs, 3, stride // above, 1)
            for (inputs, above), (outputs, stride) in pairwise(zip(channels, strides, strict=True))
        )

    def forward(self, image: Tensor, extra: Tensor | None = None) -> list[Tensor]:
        x = self.stem(image)
        found = [self.first(torch.relu(x if extra is None else x + extra))]
        for layer in self.layers:
            found.append(torch.relu(layer(found[-1])))
        return found


def use_small_trunk(net: nn.Module) -> None:
    """Put a `SmallTrunk` where the network's trunk is."""
    for module in list(net.modules()):
        trunk = getattr(module, "trunk", None)
        if trunk is not None:
            module.trunk = SmallTrunk(trunk.channels, trunk.strides)


def check_onnx(net: SegmentNet, folder: Path, *, atol: float = 2e-4) -> None:
    """The exported file gives torch's numbers, for inputs that are not zero.

    Raises:
        AssertionError: it does not.
    """
    import onnxruntime

    size = net.input_size
    exported = EXPORTERS["onnx"].export(net, precision="fp32", path=folder / "net.onnx", input_size=size)
    assert set(exported.inputs) == ({"image", "previous"} if net.previous else {"image"})
    assert exported.outputs["logits"].shape == (1, net.n_classes, net.output_size, net.output_size)
    given = {"image": pictures(1, size, 7)}
    if net.previous:
        shape = (1, net.n_classes, net.output_size, net.output_size)
        given["previous"] = torch.randn(shape, generator=torch.Generator().manual_seed(8)).softmax(1)
    session = onnxruntime.InferenceSession(exported.path, providers=["CPUExecutionProvider"])
    (found,) = session.run(["logits"], {name: value.numpy() for name, value in given.items()})
    with torch.no_grad():
        expected = net(*given.values())[0].numpy()
    assert expected.std() > 1e-2
    np.testing.assert_allclose(found, expected, atol=atol * max(1.0, float(np.abs(expected).max())))
