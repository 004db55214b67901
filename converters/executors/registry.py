"""Reference executors, by the format they run. To add one: write its file, add its line. Listing imports nothing.

A reference executor computes what a file says, on any machine, under its own name. What it finds is proof that the file
holds the network that was trained; it is no result of a device, and its time means nothing.
"""

from __future__ import annotations

from pocketface.sdk.backends.base import Backend
from pocketface.sdk.backends.registry import BACKENDS, has_executor
from pocketface.sdk.registry import Registry

EXECUTORS = Registry(
    "executor",
    {"coreml": "pocketface.converters.mil_reference.reference:MilReference"},
    extras={"coreml": "coreml"},
)


def executor_of(format: str) -> type[Backend] | None:
    """What runs this format here: its runtime, else its reference executor, else None."""
    if has_executor(format):
        runtime: type[Backend] = BACKENDS[format]
        return runtime
    if format in EXECUTORS:
        reference: type[Backend] = EXECUTORS[format]
        return reference if reference.available() else None
    return None
