"""A failed conversion names the operation, its modules and what to do: for each format, with operations it lacks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_export import SIZE, TinyNet
from torch import Tensor, nn

from pocketface.converters.failures import REMEDIES, explain
from pocketface.converters.formats.base import ConversionError
from pocketface.converters.formats.registry import EXPORTERS

pytestmark = pytest.mark.slow


class Bessel(nn.Module):
    """No mobile runtime has it."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.special.bessel_j0(x)


class Branch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if float(x.mean()) >= 0 else x


def planted(part: nn.Module, *places: int) -> TinyNet:
    """The tiny network with a module of this kind at the end of some blocks."""
    net = TinyNet()
    for place in places:
        net.features[place].append(part)
    return net.eval()


@pytest.mark.parametrize("format", list(EXPORTERS))
def test_the_operation_its_modules_and_a_remedy_are_named(format: str, tmp_path: Path) -> None:
    exporter = EXPORTERS[format]
    path = tmp_path / f"a{exporter.suffix}"
    net = planted(Bessel(), 3)
    net.features[1].append(Bessel().eval())
    with pytest.raises(ConversionError) as caught:
        exporter.export(net, precision="fp32", path=path, input_size=SIZE)
    found = caught.value.failure
    assert found is not None
    assert found.operation == "aten.special_bessel_j0"
    assert found.modules == ("features.1.3", "features.3.3")
    assert "aten.special_bessel_j0 in features.1.3, features.3.3 cannot be converted" in str(caught.value)
    assert REMEDIES["special_bessel_j0"][1:] in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not path.exists()


@pytest.mark.parametrize("format", list(EXPORTERS))
def test_code_that_looks_at_values_is_found(format: str, tmp_path: Path) -> None:
    exporter = EXPORTERS[format]
    with pytest.raises(ConversionError, match=r"graph depends on its data.*test_failures\.py:\d+.*torch\.where"):
        exporter.export(planted(Branch(), 2), precision="fp32", path=tmp_path / f"a{exporter.suffix}", input_size=SIZE)


def test_many_modules_are_counted() -> None:
    net = planted(Bessel(), 1, 2)
    for place in (0, 3, 4):
        net.features[place].append(Bessel().eval())
    found = explain(RuntimeError("op 'special_bessel_j0'"), net, (torch.zeros(1, 3, SIZE, SIZE),), "x")
    assert found is not None
    assert len(found.modules) == 5
    assert found.where == "features.0.3, features.1.3, features.2.3 and 2 others"


def test_a_message_without_an_operation_explains_nothing() -> None:
    net, args = TinyNet().eval(), (torch.zeros(1, 3, SIZE, SIZE),)
    assert explain(RuntimeError("disk on fire"), net, args, "onnx") is None
    assert explain(RuntimeError("aten.roll.default is missing"), net, args, "onnx") is None  # it has no roll
    cause = RuntimeError("aten.conv2d.default is missing")
    outer = ValueError("it failed")
    outer.__cause__ = cause
    found = explain(outer, net, args, "onnx")
    assert found is not None
    assert found.operation == "aten.conv2d"
