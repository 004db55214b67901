"""Unknown keys of a YAML file, refused with the place, the nearest valid name and all the valid ones."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from pocketface.sdk.errors import ConfigError

T = TypeVar("T", bound=msgspec.Struct)


def parsed(raw: Any, kind: type[T], where: str, mend: str) -> T:
    """Plain dictionaries and lists as a struct.

    Args:
        raw: what a YAML reader gave.
        kind: what it should become.
        where: the file, for errors.
        mend: what to do, for errors.

    Raises:
        ConfigError: an unknown key (the nearest valid one is named), a missing one, a wrong type or a value that its
            struct refuses.
    """
    if not isinstance(raw, dict):
        raise ConfigError(f"{where}: {type(raw).__name__}", expected="keys with values", next=mend)
    _refuse_unknown(raw, msgspec.inspect.type_info(kind), where, "")
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        choices = _choices(msgspec.inspect.type_info(kind), str(error))
        raise ConfigError(f"{where}: {error}", choices=choices, next=mend) from error


def _choices(kind: msgspec.inspect.Type, message: str) -> list[str] | None:
    """The values that a field may have, of a message about one that it may not; None for other messages."""
    found = re.search(r"^Invalid enum value .* at (`key` in )?`\$\.?([^`]*)`", message)
    if found is None:
        return None
    for name in filter(None, re.split(r"[.\[]", found[2].replace("]", ""))):
        kind = _field(kind, name)
    if isinstance(kind, msgspec.inspect.DictType):
        kind = kind.key_type if found[1] else kind.value_type
    literals = [part for part in getattr(kind, "types", (kind,)) if isinstance(part, msgspec.inspect.LiteralType)]
    return [str(value) for part in literals for value in part.values] or None


def _field(kind: msgspec.inspect.Type, name: str) -> msgspec.inspect.Type:
    """Type of a field, of a dictionary's values, or of a list's items."""
    for part in getattr(kind, "types", (kind,)):
        if isinstance(part, msgspec.inspect.StructType):
            return next((field.type for field in part.fields if field.encode_name == name), part)
        if isinstance(part, msgspec.inspect.DictType):
            return part.value_type
        if isinstance(part, msgspec.inspect.VarTupleType):
            return part.item_type
    return kind


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
