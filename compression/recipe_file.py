"""Recipes as files: YAML in, YAML out, settings from the command line, errors that name the nearest valid key."""

from __future__ import annotations

import difflib
import hashlib
import re
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from pocketface.compression.chain_recipe import ChainRecipe
from pocketface.compression.recipe import SCHEMA, Recipe
from pocketface.compression.segment_recipe import SegmentRecipe
from pocketface.sdk.errors import ConfigError

AnyRecipe = Recipe | ChainRecipe | SegmentRecipe
R = TypeVar("R", bound=msgspec.Struct)


def load_any(path: str | Path, overrides: tuple[str, ...] = ()) -> AnyRecipe:
    """Read a recipe of any kind: one that has ``stages`` is a chain's, one whose data has ``classes`` is for masks. See
    `load_recipe`."""
    raw = read_yaml(Path(path), overrides)
    if isinstance(raw, dict) and "stages" in raw:
        return parse_recipe(raw, str(path), ChainRecipe)
    if isinstance(raw, dict) and "classes" in (raw.get("data") or ()):
        return parse_recipe(raw, str(path), SegmentRecipe)
    return parse_recipe(raw, str(path))


def load_recipe(path: str | Path, overrides: tuple[str, ...] = ()) -> Recipe:
    """Read a recipe of one network.

    Args:
        path: a YAML file.
        overrides: ``key.subkey=value`` settings from the command line; values are YAML.

    Raises:
        ConfigError: the file is missing or not YAML, a key is unknown, a value has the wrong type.
    """
    found = load_any(path, overrides)
    if not isinstance(found, Recipe):
        kind = "a chain's" if isinstance(found, ChainRecipe) else "for masks"
        raise ConfigError(
            f"recipe {path} is {kind}", expected="a recipe of landmarks with a student", next="Use pocketface compress"
        )
    return found


def read_yaml(path: Path, overrides: tuple[str, ...] = ()) -> Any:
    """What a YAML file holds, with settings from the command line in it.

    Raises:
        ConfigError: the file is missing or not YAML, or a setting has no place.
    """
    import yaml

    try:
        raw = yaml.safe_load(path.read_text("utf-8"))
    except FileNotFoundError as error:
        known = sorted(str(p) for p in path.parent.glob("*.yaml")) if path.parent.is_dir() else []
        raise ConfigError(
            f"recipe {path}: no such file", choices=known or None, next="Give the path of a recipe"
        ) from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"recipe {path}: {' '.join(str(error).split())}", next="Mend the YAML") from error
    for override in overrides:
        _set(raw, override)
    return raw


def parse_recipe(raw: Any, where: str = "recipe", kind: type[R] = Recipe) -> R:  # type: ignore[assignment]
    """Plain dictionaries and lists -> a recipe, or a ConfigError that names the key and the nearest valid one."""
    schema = raw.get("schema", SCHEMA) if isinstance(raw, dict) else None
    if schema != SCHEMA:
        raise ConfigError(f"{where}: schema {schema!r}", expected=str(SCHEMA), next="Update pocketface, or the recipe")
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        raise ConfigError(
            f"{where}: {_explain(error, kind)}", next="Mend the recipe, or see compression/recipes/"
        ) from error


def dump_recipe(recipe: AnyRecipe) -> str:
    """Recipe -> YAML that reads back as the same recipe."""
    import yaml

    return yaml.safe_dump(msgspec.to_builtins(recipe), sort_keys=False, width=100, allow_unicode=True)


def recipe_sha256(recipe: AnyRecipe) -> str:
    """Hash of a recipe's content, whatever its file's layout."""
    return hashlib.sha256(msgspec.json.encode(recipe, order="deterministic")).hexdigest()


def _set(raw: Any, override: str) -> None:

    key, separator, value = override.partition("=")
    if not separator or not key:
        raise ConfigError(
            f"--set {override!r}", expected="key.subkey=value", next="Write, e.g., --set student.train.epochs=5"
        )
    *parents, last = key.split(".")
    node = raw
    for part in parents:
        if not isinstance(node, dict) or part not in node:
            raise ConfigError(f"--set {key}: no {part!r}", choices=node if isinstance(node, dict) else None)
        node = node[part]
    if not isinstance(node, dict):
        raise ConfigError(f"--set {key}: {parents[-1]!r} has no keys", next="Name a key of the recipe")
    node[last] = yaml_value(value, f"--set {key}")


def yaml_value(text: str, where: str) -> Any:
    """A value as typed on the command line, in YAML.

    Raises:
        ConfigError: it is none.
    """
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{where}: {text!r} is no YAML value", next="Mend the brackets or quotes") from error


def _explain(error: msgspec.ValidationError, kind: type[msgspec.Struct]) -> str:
    """msgspec's message, with the nearest valid key where a key was unknown."""
    text = str(error)
    unknown = re.search(r"unknown field `([^`]+)`", text)
    if not unknown:
        return text
    keys = {field for struct in _structs(kind) for field in struct.__struct_fields__}
    close = difflib.get_close_matches(unknown[1], sorted(keys), n=1)
    return text + (f" (did you mean {close[0]!r}?)" if close else "")


def _structs(root: type[msgspec.Struct]) -> set[type[msgspec.Struct]]:
    """A struct and every struct that its fields mention."""
    found: set[type[msgspec.Struct]] = set()
    stack: list[Any] = [msgspec.inspect.type_info(root)]
    while stack:
        item = stack.pop()
        if isinstance(item, msgspec.inspect.StructType):
            if item.cls not in found:
                found.add(item.cls)
                stack.extend(field.type for field in item.fields)
            continue
        stack.extend(getattr(item, name) for name in ("item_type", "value_type") if hasattr(item, name))
        stack.extend(getattr(item, "types", ()))
    return found
