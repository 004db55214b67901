"""Matching and judgement, on traces made by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pocketface.converters.layers.base import Trace, TracedTensor
from pocketface.converters.layers.compare import BOUNDS, LayerReport, compare_layers
from pocketface.converters.layers.torch import Reference, reference_trace
from pocketface.sdk.errors import BadInputError
from pocketface.sdk.manifest import Tolerances, Variant


def report(
    errors: dict[str, float], reads: dict[str, tuple[str, ...]] | None = None, precision: Any = "fp32"
) -> LayerReport:
    """Tensors of torch's value 1, each off by so much, in a chain unless said otherwise."""
    names = list(errors)
    chain = {name: (before,) for before, name in zip(["image", *names], names, strict=False)}
    value = np.ones((1, 4), np.float32)
    tensors = [
        TracedTensor(name, name, "Conv", value * np.float32(1 + error), "float32", inputs=(reads or chain)[name])
        for name, error in errors.items()
    ]
    reference = Reference(dict.fromkeys(names, value), frozenset(), {})
    return compare_layers(reference, Trace("by hand", tuple(tensors), {}), variant(precision))


def variant(precision: Any = "fp32") -> Variant:
    return Variant(
        id="v",
        format="onnx",
        precision=precision,
        files=(),
        inputs={},
        outputs={},
        tolerances=Tolerances(),
        status="unverified",
    )


def test_the_first_jump_is_the_place() -> None:
    found = report({"a": 1e-6, "b": 0.5, "c": 0.6, "d": 0.9})
    assert found.first is not None
    assert (found.first.module, found.first.inputs) == ("b", pytest.approx(1e-6, rel=0.1))


def test_slow_growth_names_no_place() -> None:
    """Each error is twice the one before: beyond the bound from the eighth on, a jump nowhere."""
    found = report({f"m{number}": 1e-6 * 2.0**number for number in range(12)})
    assert (found.status, found.first) == ("drifts", None)
    assert "no tensor is the place" in str(found)


def test_a_jump_below_the_bound_is_rounding() -> None:
    assert report({"a": 1e-7, "b": 5e-5, "c": 4e-5}).status == "agrees"


def test_the_bound_is_the_precision_s() -> None:
    errors = {"a": 1e-3, "b": 0.06}
    for precision, status in (("fp32", "diverges"), ("fp16", "diverges"), ("w8", "agrees"), ("w8a8", "agrees")):
        assert report(errors, precision=precision).status == status
    assert BOUNDS["fp32"].error <= 1e-4
    assert BOUNDS["fp16"].error <= 1e-2


def test_an_error_is_a_distance_over_a_length() -> None:
    """One value of a hundred off by 6, the others exact: 6 / sqrt(99 * 1 + 6^2), not the 1 that its own size gives."""
    value = np.ones((1, 100), np.float32)
    value[0, 7] = 6
    given = value.copy()
    given[0, 7] = 0
    traced = TracedTensor("a", "a", "Conv", given, "float32", inputs=("image",))
    found = compare_layers(Reference({"a": value}, frozenset(), {}), Trace("by hand", (traced,), {}), variant())
    assert found.compared[0].relative == pytest.approx(6 / math.sqrt(135))
    assert (found.compared[0].max_error, found.compared[0].mean_error) == (6, pytest.approx(0.06))


def test_error_comes_in_through_any_branch() -> None:
    """c reads a sound branch and a faulty one; d, listed later, reads the sound one alone and is faulty itself."""
    reads = {"a": ("image",), "b": ("image",), "c": ("a", "b"), "d": ("a",)}
    found = report({"a": 1e-7, "b": 0.3, "c": 0.3, "d": 0.2}, reads)
    assert [item.module for item in found.compared if item.jumps(found.bound)] == ["b", "d"]


def test_error_passes_through_tensors_that_are_not_compared() -> None:
    value = np.ones((1, 4), np.float32)
    tensors = (
        TracedTensor("a", "a", "Conv", value * 2, "float32", inputs=("image",)),
        TracedTensor("sum", "", "Add", value, "float32", inputs=("a", "image")),
        TracedTensor("b", "b", "Conv", value * 2, "float32", inputs=("sum",)),
    )
    found = compare_layers(Reference({"a": value, "b": value}, frozenset(), {}), Trace("", tensors, {}), variant())
    assert [item.inputs for item in found.compared] == [0, 1]
    assert found.unmatched == ("sum",)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_diverges(bad: float) -> None:
    found = report({"a": 1e-7, "b": bad, "c": bad})
    assert found.first is not None
    assert found.first.module == "b"
    assert found.to_dict()["first_diverging"]["relative"] is None


def test_the_last_operation_makes_the_output_and_casts_are_not_compared() -> None:
    value = np.ones((1, 4), np.float32)
    tensors = (
        TracedTensor("sigmoid", "act", "Sigmoid", value * 7, "float32", inputs=("image",)),
        TracedTensor("product", "act", "Mul", value, "float32", inputs=("sigmoid",)),
        TracedTensor("half", "act", "Cast", value * 9, "float16", inputs=("product",)),
    )
    found = compare_layers(Reference({"act": value, "gone": value}, frozenset(), {}), Trace("", tensors, {}), variant())
    assert [item.name for item in found.compared] == ["product"]
    assert found.unmatched == ("sigmoid", "half")
    assert found.uncovered == ("gone",)


def test_layouts_are_told_apart() -> None:
    value = np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4)
    for layout in ("NCHW", "NHWC"):
        item = TracedTensor("a", "a", "Conv", value.transpose(0, 2, 3, 1), "float32", layout=layout)
        assert np.array_equal(item.in_shape((1, 2, 3, 4)), value)
    cube = np.arange(8, dtype=np.float32).reshape(1, 2, 2, 2)  # both ways fit: the tracer's word counts
    item = TracedTensor("a", "a", "Conv", cube.transpose(0, 2, 3, 1), "float32", layout="NHWC")
    assert np.array_equal(item.in_shape((1, 2, 2, 2)), cube)
    flat = TracedTensor("a", "a", "Gemm", np.ones((1, 5), np.float32), "float32")
    assert flat.in_shape((1, 5, 1, 1)).shape == (1, 5, 1, 1)
    assert flat.in_shape((5, 2)) is None


def test_a_file_with_nothing_to_compare_is_refused() -> None:
    value = np.ones((1, 4), np.float32)
    trace = Trace("", (TracedTensor("a", "", "Conv", value, "float32"),), {})
    with pytest.raises(BadInputError, match="no tensor of the file could be matched"):
        compare_layers(Reference({"a": value}, frozenset(), {}), trace, variant())
    with pytest.raises(BadInputError, match="torch's own a holds NaN"):
        compare_layers(Reference({"a": value * math.nan}, frozenset(), {}), trace, variant())


class _Block(nn.Module):
    """In-place activations, a shortcut, a container that only passes on, and one module used twice."""

    output_names = ("out",)

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.ReLU(inplace=True))
        self.sum = _Sum()
        self.twice = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.twice(self.sum(self.twice(x), self.body(x)))


class _Sum(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Identity()

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        z = self.inner(x * 2)
        z += y
        return z


def test_the_reference_is_each_module_s_output_as_it_was_when_it_was_made() -> None:
    torch.manual_seed(0)
    net = _Block().eval()
    nn.init.constant_(net.body[1].bias, -0.1)
    image = np.random.default_rng(0).normal(size=(1, 3, 4, 4)).astype(np.float32)
    found = reference_trace(net, {"image": image})
    with torch.no_grad():
        x = torch.from_numpy(image)
        conv = net.body[0](x)
        norm = net.body[1](conv)
        relu = norm.clamp(min=0)
        total = 2 * x.clamp(min=0) + relu
    for path, wanted in {"body.0": conv, "body.1": norm, "body.2": relu, "body": relu, "sum": total}.items():
        assert np.allclose(found.modules[path], wanted.numpy(), atol=1e-6), path
    assert (norm < 0).any()  # so that a value changed in place would show
    assert "twice" not in found.modules
    # The container's output is the activation's; the sum's is its own, although it is the same tensor, changed.
    assert found.passed_on == {"body"}
    assert np.allclose(found.outputs["out"], total.clamp(min=0).numpy(), atol=1e-6)
    assert net.body[0]._forward_hooks == {}
