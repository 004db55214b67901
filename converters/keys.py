"""Unknown keys of a YAML file, refused with the place, the nearest valid name and all the valid ones."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from pocketface.sdk.errors import ConfigError

T = TypeVar("T", bound=msgspec.Struct)


def parsed(raw: Any, kind: type[T], where: str, next: str) -> T:
    """Plain dictionaries and lists as a struct.

    Args:
        raw: what a YAML reader gave.
        kind: what it should become.
        where: the file, for errors.
        next: what mends it, for errors.

    Raises:
        ConfigError: an unknown key (the nearest valid one is named), a missing one, a wrong type or a value that its
            struct refuses.
    """
    if not isinstance(raw, dict):
        raise ConfigError(f"{where}: {type(raw).__name__}", expected="keys with values", next=next)
    _refuse_unknown(raw, msgspec.inspect.type_info(kind), where, "")
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where}: {error}", next=next) from error


def _refuse_unknown(raw: Any, kind: msgspec.inspect.Type, where: str, path: str) -> None:
    if isinstance(kind, msgspec.inspect.UnionType):
        for item in kind.types:
            _refuse_unknown(raw, item, where, path)
    elif isinstance(kind, msgspec.inspect.StructType) and isinstance(raw, Mapping):
        fields = {field.encode_name: field.type for field in kind.fields}
        for key, value in raw.items():
            full = f"{path}.{key}" if path else str(key)
            if key not in fields:
                close = difflib.get_close_matches(str(key), fields, n=1)
                hint = f" (did you mean {close[0]!r}?)" if close else ""
                raise ConfigError(f"{where}: unknown key {full!r}{hint}", choices=fields)
            _refuse_unknown(value, fields[key], where, full)
    elif isinstance(kind, msgspec.inspect.DictType) and isinstance(raw, Mapping):
        for key, value in raw.items():
            _refuse_unknown(value, kind.value_type, where, f"{path}.{key}")
    elif isinstance(kind, msgspec.inspect.VarTupleType) and isinstance(raw, list | tuple):
        for number, value in enumerate(raw):
            _refuse_unknown(value, kind.item_type, where, f"{path}[{number}]")
