"""Every reader, by the format it reads. To add one: write its file, add its line. Listing imports nothing."""

from __future__ import annotations

from pathlib import Path

from pocketface.converters.readers.base import Contents, Reader, Signature, reading
from pocketface.sdk.errors import UnknownNameError
from pocketface.sdk.registry import Registry

EXTRAS = {"onnx": "compress", "tflite": "tflite", "coreml": "coreml", "executorch": "executorch"}
"""Format -> the pip extra that brings what its reader needs."""

READERS = Registry(
    "reader",
    {
        "onnx": "pocketface.converters.readers.onnx:READER",
        "tflite": "pocketface.converters.readers.tflite:READER",
        "coreml": "pocketface.converters.readers.coreml:READER",
        "executorch": "pocketface.converters.readers.executorch:READER",
    },
    extras=EXTRAS,
)


def read_signature(format: str, path: Path) -> Signature:
    """Read the inputs and outputs that a model file declares.

    Args:
        format: a name of ``READERS``.
        path: the file, or the ``.mlpackage`` folder.

    Raises:
        MissingExtraError: the format's package is not installed.
        BundleError: the file cannot be read.
        UnknownNameError: no reader for this format.
    """
    reader = _reader(format)
    with reading(format, EXTRAS.get(format, format), path):
        return reader.signature(path)


def read_contents(format: str, path: Path) -> Contents:
    """Read everything in a model file: border, operations, weights. Arguments and errors as for `read_signature`."""
    reader = _reader(format)
    with reading(format, EXTRAS.get(format, format), path):
        return reader.contents(path)


def _reader(format: str) -> Reader:
    if format not in READERS:
        raise UnknownNameError("format", format, READERS)
    reader: Reader = READERS[format]
    return reader
