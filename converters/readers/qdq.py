"""Which operations run on integers, in formats that say it by quantize and dequantize around float operations (QDQ).

dequantize -> Conv -> [Relu] -> quantize    runtimes fuse this into one integer convolution
dequantize -> Conv -> Reshape               without a quantize behind it, it stays in float
dequantize -> Conv (float weight) -> quantize    so it does where something that it reads is in float
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Node:
    """One operation: its type, and the names of its tensors, constants included."""

    type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Quantized:
    """What the pairs in a graph say.

    Attributes:
        stored: dequantized constant -> the constant as it is stored.
        dequantized: dequantized activations.
        integers: first output of each operation on integers -> type of those.
    """

    stored: Mapping[str, str]
    dequantized: frozenset[str]
    integers: Mapping[str, str]


def quantized(
    nodes: Sequence[Node],
    constants: Mapping[str, int],
    types: Mapping[str, str],
    *,
    quantize: str,
    dequantize: str,
    folded: frozenset[str],
    bounded: frozenset[str],
) -> Quantized:
    """Read the pairs of a graph.

    Args:
        nodes: in execution order.
        constants: name of a constant tensor -> number of values.
        types: tensor name -> dtype name; of constants, as they are stored.
        quantize, dequantize: types of these operations; their first input is the tensor.
        folded: types of operations that runtimes fold into a quantize behind them, whose range they only limit.
        bounded: types of operations whose float constants are bounds, scales or fill values instead of operands.
    """
    readers: dict[str, list[Node]] = {}
    stored: dict[str, str] = {}
    dequantized: set[str] = set()
    for node in nodes:
        for name in node.inputs:
            readers.setdefault(name, []).append(node)
        if node.type == dequantize:
            if node.inputs[0] in constants:
                stored[node.outputs[0]] = node.inputs[0]
            else:
                dequantized.add(node.outputs[0])
    # From the back, so that what stands behind a node is known before it.
    target: dict[str, str] = {}
    for node in reversed(nodes):
        following = readers.get(node.outputs[0], []) if node.outputs else []
        for reader in following:
            if reader.type == quantize:
                target[node.outputs[0]] = types.get(reader.outputs[0], "")
        if len(following) == 1 and following[0].type in folded and following[0].outputs[0] in target:
            target.setdefault(node.outputs[0], target[following[0].outputs[0]])
    integers: dict[str, str] = {}
    for node in nodes:
        if node.type in (quantize, dequantize) or not node.outputs or node.outputs[0] not in target:
            continue
        follows = node.type in folded and bool(node.inputs) and node.inputs[0] in integers
        fed = not dequantized.isdisjoint(node.inputs) and not any(
            _in_float(types.get(name, "")) and name not in (*constants, *stored, *dequantized) for name in node.inputs
        )
        if follows or (fed and (node.type in bounded or _quantized_operand(node, constants, stored, types))):
            integers[node.outputs[0]] = target[node.outputs[0]]
    return Quantized(stored, frozenset(dequantized), integers)


def _in_float(dtype: str) -> bool:
    return dtype.startswith(("float", "bfloat"))


def _quantized_operand(
    node: Node, constants: Mapping[str, int], stored: Mapping[str, str], types: Mapping[str, str]
) -> bool:
    """Whether the largest constant that it reads, its weight, is quantized; a bias may be in float. True without."""
    sources = [stored.get(name, name) for name in node.inputs if name in constants or name in stored]
    largest = max(sources, key=constants.__getitem__, default=None)
    return largest is None or not _in_float(types.get(largest, ""))
