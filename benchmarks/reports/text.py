"""How the report, the terminal and the results pages write a figure. A missing one is a dash, everywhere."""

from __future__ import annotations

import math

from pocketface.sdk.terminal import count_text, size_text

DASH = "–"  # noqa: RUF001 -- an en dash is meant


def number(value: float | None, digits: int = 2) -> str:
    """Fixed digits; a dash for None, NaN and infinity."""
    return DASH if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def signed(value: float | None, digits: int = 3) -> str:
    """A change, with its sign; one that rounds to nothing is 0 with either sign left out."""
    text = number(value, digits)
    if text == DASH:
        return text
    return f"{0:.{digits}f}" if float(text) == 0 else f"{float(text):+.{digits}f}"


def error(value: float | None) -> str:
    """An error over many orders of magnitude: 0, 0.0123, 3.2e-07."""
    if value is None or not math.isfinite(value):
        return DASH
    return "0" if value == 0 else f"{value:.3f}" if value >= 0.01 else f"{value:.1e}"


def ms(value: float | None) -> str:
    """Milliseconds with three significant digits, without the unit."""
    if value is None or not math.isfinite(value):
        return DASH
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def count(value: int | None, unit: str = "") -> str:
    """2.22 M; with a unit, 2.22 M parameters."""
    return DASH if value is None else count_text(value, unit).strip()


def bytes_text(value: int | None) -> str:
    """3.4 MB, powers of 1000."""
    return DASH if value is None else size_text(value)
