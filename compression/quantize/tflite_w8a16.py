"""TFLite with int8 weights and int16 activations (w8a16), through ai-edge-quantizer: for hardware that computes so.

As w8a8, but activations have 65536 steps: what is left of the error is that of the weights. On a trained
EfficientNet-Lite0 at 144 px that is nearly all there was: 46.2 dB of its points over faces, 45.5 dB in w8a8. LiteRT
2.3 runs it with its reference kernels alone, XNNPACK takes none of its layers: the same network takes 20 times as long
as in float32 (processor time of one thread over 32 faces).
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from pocketface.compression.quantize.base import Calibration, Quantizer, StaticConfig
from pocketface.compression.quantize.tflite import write_static
from pocketface.converters.formats.base import INPUT, Exported


def _quantize(source: Exported, path: Path, calibration: Calibration, config: StaticConfig) -> None:
    # The cast, the normalisation and the padding: no sense in rounding what the next one takes in float.
    before = config.float_first or source.inputs[INPUT].dtype == "uint8"
    write_static(source, path, calibration, config, bits=16, float_before=before, mend=_avoid_powers_of_two)


def _avoid_powers_of_two(ranges: dict[str, Any]) -> None:
    """Widen the ranges (``min`` and ``max``, in place) whose scale would be a power of two, as a clamp gives them.

    Where the scales of both terms and of the sum are, LiteRT 2.3 adds by shifting, and refuses the file when both terms
    would have to be shifted (kernels/add.cc).
    """
    for found in ranges.values():
        largest = max(float(np.abs(found[key]).max()) for key in ("min", "max"))
        if largest > 0 and abs(math.remainder(math.log2(largest / 32767), 1)) < 5e-3:  # its own tolerance is 1e-3
            found |= {key: 1.01 * found[key] for key in ("min", "max")}


QUANTIZER = Quantizer("tflite.w8a16", "tflite", "w8a16", 1, StaticConfig, _quantize, calibrated=True)
