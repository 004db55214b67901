"""A sweep: many students out of one recipe, each with some settings changed; what is worth having of all their variants
is found by measuring them together.
"""

from __future__ import annotations

import copy
import itertools
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from pocketface.compression.recipe import BenchSpec, Config, Recipe, check_folder_names
from pocketface.compression.recipe_file import dump_recipe, load_recipe, parse_recipe, read_yaml
from pocketface.sdk.errors import ConfigError

SCHEMA = 1


class ChooseSpec(Config, frozen=True, kw_only=True):
    """Which variant of the front becomes the default of the sweep's bundle: the most accurate that keeps these bounds.

    Attributes:
        max_mb: millions of bytes of its files; 0 sets none.
        max_ms: median milliseconds of one face at ``threads``; 0 sets none.
        threads: of the front's latency: one of ``bench.threads``.
    """

    max_mb: float = 0.0
    max_ms: float = 0.0
    threads: int = 1

    def __post_init__(self) -> None:
        for name in ("max_mb", "max_ms"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise ConfigError(f"choose.{name}: {getattr(self, name):g}", expected="a finite number, 0 or more")


class SweepRecipe(Config, frozen=True, kw_only=True):
    """The whole sweep.

    Attributes:
        base: path of the recipe that every student begins with, relative to the sweep's own file.
        grid: key of the recipe (``"student.model.width"``) -> values: a student for every combination.
        students: name -> settings that differ from the base's, nested as in a recipe; a value replaces the base's, a
            mapping is merged into it.
        bench: of all variants in one interleaved run.
    """

    schema: int = SCHEMA
    name: str
    base: str
    grid: dict[str, tuple[Any, ...]] = msgspec.field(default_factory=dict)
    students: dict[str, dict[str, Any]] = msgspec.field(default_factory=dict)
    bench: BenchSpec = BenchSpec()
    choose: ChooseSpec = ChooseSpec()

    def __post_init__(self) -> None:
        if not self.grid and not self.students:
            raise ConfigError("a sweep of no students", expected="grid, students, or both")
        for key, values in self.grid.items():
            if not values or len({msgspec.json.encode(value) for value in values}) != len(values):
                raise ConfigError(f"grid.{key}: {list(values)}", expected="one value or more, each once")
        names = [name for name, _ in _combinations(self.grid)]
        check_folder_names("students", [*self.students, *names])
        if self.choose.threads not in self.bench.threads:
            raise ConfigError(
                f"choose.threads: {self.choose.threads}", choices=[str(count) for count in self.bench.threads]
            )


class Sweep(NamedTuple):
    """A sweep as it was read.

    Attributes:
        spec: its own file.
        base: the recipe that its students begin with.
        students: name -> recipe.
    """

    spec: SweepRecipe
    base: Recipe
    students: dict[str, Recipe]

    @property
    def changes(self) -> dict[str, dict[str, Any]]:
        """Student -> the settings that differ from the base's."""
        return {**dict(_combinations(self.spec.grid)), **self.spec.students}

    @property
    def text(self) -> str:
        """Both files as YAML documents."""
        import yaml

        own = yaml.safe_dump(msgspec.to_builtins(self.spec), sort_keys=False, width=100, allow_unicode=True)
        return f"{own}---\n{dump_recipe(self.base)}"


def load_sweep(path: Path) -> Sweep:
    """Read a sweep and the recipe of each of its students.

    Raises:
        ConfigError: a file is missing or no YAML, a key is unknown, a value has the wrong type or is out of range.
    """
    sweep: SweepRecipe = parse_recipe(read_yaml(path), str(path), SweepRecipe)
    base_path = path.parent / sweep.base
    own = load_recipe(base_path)
    base = read_yaml(base_path)
    changes = {**dict(_combinations(sweep.grid)), **sweep.students}
    found: dict[str, Recipe] = {
        name: parse_recipe(_merged(base, {**change, "name": f"{sweep.name}, {name}"}), f"{path}, student {name}")
        for name, change in changes.items()
    }
    for name, recipe in found.items():
        if recipe.data != own.data:
            raise ConfigError(f"{path}, student {name}: data", expected="the base's, or no figure could be compared")
    return Sweep(sweep, own, found)


def _combinations(grid: Mapping[str, tuple[Any, ...]]) -> list[tuple[str, dict[str, Any]]]:
    """Name and nested settings of every combination: ``width 0.5 input-size 112``."""
    if not grid:
        return []
    found = []
    for values in itertools.product(*grid.values()):
        pairs = list(zip(grid, values, strict=True))
        nested: dict[str, Any] = {}
        for key, value in pairs:
            nested = _merged(nested, _nested(key, value))
        found.append((" ".join(f"{_text(key.rpartition('.')[2])} {_text(value)}" for key, value in pairs), nested))
    return found


def _text(value: Any) -> str:
    return re.sub(r"[^A-Za-z0-9.-]+", "-", str(value)).strip("-")


def _nested(key: str, value: Any) -> dict[str, Any]:
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


def _merged(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of ``base`` with ``change`` merged into its mappings."""
    found = copy.deepcopy(dict(base))
    for key, value in change.items():
        both = isinstance(found.get(key), Mapping) and isinstance(value, Mapping)
        found[key] = _merged(found[key], value) if both else copy.deepcopy(value)
    return found
