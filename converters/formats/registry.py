"""Every export format, by name. To add one: write its file, add its line. Listing imports nothing."""

from __future__ import annotations

from pocketface.sdk.registry import Registry

EXPORTERS = Registry(
    "exporter",
    extra="compress",
    extras={"coreml": "coreml", "executorch": "executorch"},
    table={
        "onnx": "pocketface.converters.formats.onnx:EXPORTER",
        "tflite": "pocketface.converters.formats.tflite:EXPORTER",
        "coreml": "pocketface.converters.formats.coreml:EXPORTER",
        "executorch": "pocketface.converters.formats.executorch:EXPORTER",
    },
)
