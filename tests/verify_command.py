"""The type of the fixture ``run`` of tests/converters: ``pocketface verify …`` -> exit code, output, errors."""

from __future__ import annotations

from collections.abc import Callable

Run = Callable[..., tuple[int, str, str]]
