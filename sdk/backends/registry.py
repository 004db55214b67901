"""Every runtime backend, by the format it runs. To add one: write its file, add its line. Listing imports nothing."""

from __future__ import annotations

from pocketface.sdk.registry import Registry

BACKENDS = Registry(
    "backend",
    {
        "onnx": "pocketface.sdk.backends.onnx:OnnxBackend",
        "tflite": "pocketface.sdk.backends.tflite:TfliteBackend",
        "coreml": "pocketface.sdk.backends.coreml:CoreMLBackend",
        "executorch": "pocketface.sdk.backends.executorch:ExecutorchBackend",
    },
    extras={"tflite": "tflite", "coreml": "coreml", "executorch": "executorch"},
)


def has_executor(format: str) -> bool:
    """Whether a variant of this format can run here. Imports no runtime."""
    return format in BACKENDS and bool(BACKENDS[format].available())
