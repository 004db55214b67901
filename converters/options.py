"""Options of exporters and quantizers: frozen structs, made from a recipe's plain values, unknown keys refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from pocketface.converters.keys import parsed


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of them all; every field has a default."""


T = TypeVar("T", bound=Options)


def configured(type: type[T], values: Mapping[str, Any] | None, where: str) -> T:
    """Plain values, as a recipe has them, as options.

    Args:
        type: what they should become.
        values: key -> value; None for the defaults.
        where: whose options they are, for errors.

    Raises:
        ConfigError: an unknown key (the nearest valid one is named), a wrong type or a value out of range.
    """
    return parsed(dict(values or {}), type, where, "Correct this setting")
