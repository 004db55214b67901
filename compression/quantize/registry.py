"""Every quantizer, by FORMAT.PRECISION. To add one: write its file, add its line. Listing imports nothing."""

from __future__ import annotations

from pocketface.sdk.registry import Registry

QUANTIZERS = Registry(
    "quantizer",
    extra="compress",
    table={
        "onnx.w8": "pocketface.compression.quantize.onnx_weights:QUANTIZER",
        "onnx.w8a8": "pocketface.compression.quantize.onnx_static:QUANTIZER",
        "tflite.w8": "pocketface.compression.quantize.tflite:WEIGHTS",
        "tflite.w8a8": "pocketface.compression.quantize.tflite:STATIC",
    },
)
