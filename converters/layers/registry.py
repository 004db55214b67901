"""Every tracer, by the format it runs. To add one: write its file, add its line. Listing imports nothing."""

from __future__ import annotations

from pocketface.sdk.registry import Registry

TRACERS = Registry(
    "tracer",
    {
        "onnx": "pocketface.converters.layers.onnx:TRACER",
        "tflite": "pocketface.converters.layers.tflite:TRACER",
        "coreml": "pocketface.converters.layers.coreml:TRACER",
        "executorch": "pocketface.converters.layers.executorch:TRACER",
    },
    extras={"onnx": "compress", "tflite": "tflite", "coreml": "coreml", "executorch": "executorch"},
)
