"""Options of exporters and quantizers: frozen structs, made from a recipe's plain values, unknown keys refused."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from pocketface.sdk.errors import ConfigError


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
    values = dict(values or {})
    known = [field.name for field in msgspec.structs.fields(type)]
    for key in values:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            raise ConfigError(f"{where}: unknown key {key!r}{hint}", choices=known)
    try:
        return msgspec.convert(values, type)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where}: {error}", next="Correct the recipe") from error
