"""How much of anything a bundle may ask for, and how its numbers and texts may look.

A manifest is untrusted: a shape is memory, a count is time, a text ends on a terminal. Every limit is far above what a
network for a phone needs, and low enough that what passes cannot exhaust a machine.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from pocketface.sdk.errors import BundleError

MAX_MANIFEST_BYTES = 8 * 2**20
MAX_SIGNATURE_BYTES = 8 * 2**20
MAX_TOTAL_BYTES = 4 * 2**30
"""Of all files of a bundle."""
MAX_ENTRIES = 10_000
"""Files of a bundle."""

MAX_SIDE = 4096
"""Longest side of an input, and of a mask in cells."""
MAX_ELEMENTS = 2**26
"""Values of one tensor: 256 MB in float32. An image of 4096 x 4096 pixels fits."""
MAX_POINTS = 65_536
"""Landmarks of a scheme: dense meshes of a face have some ten thousand."""
MAX_STAGES, MAX_TENSORS, MAX_VARIANTS, MAX_GOLDEN, MAX_RUNS = 16, 16, 256, 1000, 1000
"""Stages of a bundle; inputs, outputs and states of a stage, each; variants of a stage; golden cases; runs."""

MAX_NUMBER = 2.0**53
"""Of any number: whole ones up to this are exact in JSON readers and float64 alike."""
MAX_TEXT = 4 * 2**20
MAX_DEPTH = 32

_AGAIN = "Do not trust this bundle; fetch or build it again"


def check_values(raw: Any) -> None:
    """Refuse numbers and texts that no manifest holds, wherever they stand.

    Args:
        raw: plain values, as of JSON.

    Raises:
        BundleError: a number that is not finite or beyond ``MAX_NUMBER``; a text with control characters (other than
            line breaks and tabs), which could rewrite a terminal; nested deeper than ``MAX_DEPTH``.
    """
    waiting: list[tuple[str, int, Any]] = [("", 0, raw)]
    while waiting:
        where, depth, value = waiting.pop()
        if depth > MAX_DEPTH:
            raise _refused("values are nested too deeply", f"at most {MAX_DEPTH} levels")
        if isinstance(value, dict):
            for key, item in value.items():
                _check_text(where, key)
                waiting.append((f"{where}.{key[:40]}" if where else key[:40], depth + 1, item))
        elif isinstance(value, list | tuple):
            waiting += [(where, depth + 1, item) for item in value]
        elif isinstance(value, str):
            _check_text(where, value)
        # A bool is 0 or 1. NaN compares with nothing, so it is not within the bound either.
        elif isinstance(value, int | float) and not -MAX_NUMBER <= value <= MAX_NUMBER:
            found = f"{value:g}" if isinstance(value, float) else "a number of many digits"
            raise _refused(f"{where} holds {found}", f"a finite number of at most {MAX_NUMBER:g}")


def check_count(what: str, items: Sequence[Any], most: int) -> None:
    """Refuse a list that is too long to be looked at.

    Raises:
        BundleError: it is.
    """
    if len(items) > most:
        raise _refused(f"{len(items)} {what}", f"at most {most}")


def check_shape(where: str, shape: Sequence[int]) -> None:
    """Refuse a shape that no tensor has, or that takes too much memory.

    Raises:
        BundleError: no side at all is fine, but not more than 8, nor a side below 1, nor more than ``MAX_ELEMENTS``.
    """
    if len(shape) > 8 or any(side < 1 for side in shape) or math.prod(shape) > MAX_ELEMENTS:
        raise _refused(
            f"{where} has shape {tuple(shape[:9])}",
            f"at most 8 sides, each 1 or more, of together at most {MAX_ELEMENTS} values",
        )


def _check_text(where: str, text: str) -> None:
    if len(text) > MAX_TEXT or not _plain(text):
        raise _refused(
            f"{where or 'it'} holds the text {text[:40]!r}, which is not allowed in a bundle",
            f"at most {MAX_TEXT} characters, none of them a control character",
        )


def _plain(text: str) -> bool:
    if text.isprintable():
        return True
    # Line breaks and tabs are fine; C0 and C1 controls drive terminals, lone surrogates cannot even be printed, and
    # the marks that turn the direction of text around make one name look like another.
    return not any(
        (code < 32 and code not in (9, 10, 13))
        or 127 <= code < 160
        or 0xD800 <= code < 0xE000
        or 0x202A <= code <= 0x202E
        or 0x2066 <= code <= 0x2069
        for code in map(ord, text)
    )


def _refused(what: str, expected: str) -> BundleError:
    return BundleError(f"manifest.json: {what}", expected=expected, next=_AGAIN)
