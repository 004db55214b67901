"""What a tracer finds: every tensor that a runtime computed on the way, with the module it belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pocketface.sdk.manifest import Variant

Inputs = Mapping[str, NDArray[Any]]
"""Contract input name -> tensor, NCHW."""


@dataclass(frozen=True, eq=False)
class TracedTensor:
    """One result of one operation.

    Attributes:
        name: of the tensor in the file.
        module: path in the network; empty for an operation of no submodule, or where the file does not say.
        operation: as the format spells it.
        value: float32, dequantized, in the layout that the file has it in.
        dtype: as the file has it.
        scale: of its quantization, if it has one.
        layout: of a four-dimensional value, as far as the tracer can tell.
        inputs: names of the tensors that the operation read, constants left out; None where the runtime does not say.
    """

    name: str
    module: str
    operation: str
    value: NDArray[np.float32]
    dtype: str
    scale: float | None = None
    layout: str = "NCHW"
    inputs: tuple[str, ...] | None = None

    def in_shape(self, shape: tuple[int, ...]) -> NDArray[np.float32] | None:
        """The value as torch has it, or None if it cannot be the same tensor.

        Where both layouts would fit, the tracer's word counts; sides of 1 may come and go.
        """
        ways = [self.value]
        if self.value.ndim == 4:
            last = self.value.transpose(0, 3, 1, 2)
            ways = [last, self.value] if self.layout == "NHWC" else [self.value, last]
        for way in ways:
            if way.shape == shape:
                return way
        for way in ways:
            if _without_ones(way.shape) == _without_ones(shape):
                return way.reshape(shape)
        return None


@dataclass(frozen=True)
class Trace:
    """All of one run.

    Attributes:
        executor: what ran it, with the settings that may change numbers.
        tensors: in execution order.
        outputs: contract output name -> name of the tensor.
        notes: what cannot be seen in this format.
    """

    executor: str
    tensors: tuple[TracedTensor, ...]
    outputs: Mapping[str, str]
    notes: tuple[str, ...] = ()


class Tracer(Protocol):
    """Runs a file of one format and keeps everything it computes."""

    format: str

    def trace(self, path: Path, variant: Variant, inputs: Inputs) -> Trace:
        """Run once.

        Args:
            path: the file, or the folder.
            variant: its bindings.
            inputs: contract inputs of batch 1, as a backend takes them.

        Raises:
            BundleError: the runtime refuses the file.
            MissingExtraError: the runtime is not installed.
        """
        ...


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(side for side in shape if side != 1)
