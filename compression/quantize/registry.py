"""Every quantizer, by FORMAT.PRECISION. To add one: write its file, add its line. Listing imports nothing."""

from __future__ import annotations

from pocketface.sdk.registry import Registry

QUANTIZERS = Registry(
    "quantizer",
    extra="compress",
    table={
        "onnx.w8": "pocketface.compression.quantize.onnx_weights:QUANTIZER",
        "onnx.w8a8": "pocketface.compression.quantize.onnx_static:QUANTIZER",
        "coreml.w8": "pocketface.compression.quantize.coreml:WEIGHTS",
        "coreml.w8a8": "pocketface.compression.quantize.coreml_static:QUANTIZER",
        "coreml.pal4": "pocketface.compression.quantize.coreml:PALETTE4",
        "coreml.pal6": "pocketface.compression.quantize.coreml:PALETTE6",
        "tflite.w8": "pocketface.compression.quantize.tflite:WEIGHTS",
        "tflite.w8a8": "pocketface.compression.quantize.tflite:STATIC",
        "tflite.w8a16": "pocketface.compression.quantize.tflite_w8a16:QUANTIZER",
        "tflite.dynamic": "pocketface.compression.quantize.tflite_dynamic:QUANTIZER",
        "tflite.w4": "pocketface.compression.quantize.tflite_w4:QUANTIZER",
        "executorch.w8a8": "pocketface.compression.quantize.executorch:QUANTIZER",
    },
)
