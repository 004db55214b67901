"""int8 in TFLite, seen through LiteRT's own list of operations."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_export import exported, inputs
from tiny_quantize import FIRST, HEADS, LARGE, Operation, modules, outputs, quantized, tflite_operations, values

from pocketface.compression.quantize.registry import QUANTIZERS
from pocketface.compression.quantize.report import report
from pocketface.converters.formats.base import Exported

WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
BORDERS = ("QUANTIZE", "DEQUANTIZE")


def described(item: Exported) -> tuple[list[Operation], list[tuple[str, Any]]]:
    """Operations but for conversions of type, and (type of activation, stored type of weights) of each layer."""
    every = tflite_operations(item)
    stored = {op.output["index"]: op.constants[0] for op in every if op.kind == "DEQUANTIZE" and op.constants}
    layers = []
    for op in every:
        if op.kind in WEIGHTED:
            weight = next((stored[tensor["index"]] for tensor in op.inputs if tensor["index"] in stored), None)
            weight = op.constants[0] if weight is None else weight
            layers.append((np.dtype(op.inputs[0]["dtype"]).name, np.dtype(weight["dtype"]).name))
    return [op for op in every if op.kind not in BORDERS], layers


def stored_values(item: Exported) -> Counter[str]:
    """Values of weights and biases by stored type; a bias has one axis, everything else that is int32 is a shape."""
    every = tflite_operations(item)
    found: dict[int, Any] = {}
    for op in every:
        if op.kind in WEIGHTED or op.kind == "DEQUANTIZE":
            found |= {tensor["index"]: tensor for tensor in op.constants}
    counts: Counter[str] = Counter()
    for tensor in found.values():
        counts[np.dtype(tensor["dtype"]).name] += int(np.prod(tensor["shape"]))
    return counts


@pytest.mark.slow
@pytest.mark.parametrize("name", [None, "tflite.w8", "tflite.w8a8"])
def test_the_report_is_what_litert_says(name: str | None) -> None:
    item = exported("tflite") if name is None else quantized(name)
    found = report(item)
    operations, layers = described(item)
    assert found.weights == stored_values(item)
    assert found.operations == len(operations)
    assert found.quantized_operations == sum(op.on_integers for op in operations)
    assert found.weight_only_operations == layers.count(("float32", "int8"))
    assert (found.name, found.bytes) == (item.path.name, item.path.stat().st_size)


@pytest.mark.slow
def test_weights_in_8_bits_leave_arithmetic_in_float() -> None:
    operations, layers = described(quantized("tflite.w8"))
    assert not any(op.on_integers for op in operations)
    assert layers == [("float32", "int8" if name in LARGE else "float32") for name in modules()]
    floats = values(*modules()) - values(*LARGE) + outputs(*modules())
    assert stored_values(quantized("tflite.w8")) == {"int8": values(*LARGE), "float32": floats}


@pytest.mark.slow
def test_static_keeps_the_first_layer_and_the_heads_in_float() -> None:
    _, layers = described(quantized("tflite.w8a8"))
    kinds = {FIRST: ("float32", "float32"), **dict.fromkeys(HEADS, ("float32", "int8"))}
    assert layers == [kinds.get(name, ("int8", "int8")) for name in modules()]
    between = [name for name in modules() if name not in kinds]
    assert stored_values(quantized("tflite.w8a8")) == {
        "int8": values(*between, *HEADS),
        "float32": values(FIRST) + outputs(FIRST, *HEADS),
        "int32": outputs(*between),  # biases of layers on integers
    }


@pytest.mark.slow
def test_static_options(tmp_path: Path) -> None:
    quantizer = QUANTIZERS["tflite.w8a8"]
    for settings, special in (
        ({"float_first": False, "weights_only": []}, {}),
        (
            {"keep_float": ["score"], "weights_only": ["points"]},
            {
                FIRST: ("float32", "float32"),
                "score": ("float32", "float32"),
                "points": ("float32", "int8"),
            },
        ),
    ):
        config: Any = quantizer.configure(settings)
        path = tmp_path / f"{len(special)}.tflite"
        item = quantizer(exported("tflite"), path, inputs(4, 1), config=config)
        _, layers = described(item)
        assert layers == [special.get(name, ("int8", "int8")) for name in modules()]


@pytest.mark.slow
def test_a_head_that_is_a_convolution_keeps_float_arithmetic_too() -> None:
    import tiny_mask

    operations = tflite_operations(tiny_mask.exported("tiny_previous", "tflite", "w8a8"))
    classes = tiny_mask.net("tiny_previous").n_classes
    heads = [op for op in operations if op.kind == "CONV_2D" and op.output["shape"][-1] == classes]
    assert len(heads) == 1
    assert heads[0].output["dtype"] == np.float32
    assert any(op.on_integers for op in operations if op.kind == "CONV_2D")
