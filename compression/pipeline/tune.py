"""Settings of a quantizer that are not believed but tried: each combination makes a file, validation faces decide."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from pocketface.compression.pipeline.trials import Trials
from pocketface.compression.quantize.registry import QUANTIZERS
from pocketface.compression.recipe import ExportSpec
from pocketface.converters.executors import executor_of
from pocketface.converters.formats.base import ConversionError, Exported
from pocketface.sdk.errors import ConfigError, EnvironmentProblemError
from pocketface.sdk.progress import say


class Tried(msgspec.Struct, frozen=True, kw_only=True):
    """One combination.

    Attributes:
        settings: of the quantizer.
        increase: of the task error over torch on validation faces, percentage points; None where no file came of it.
        problem: why not.
    """

    settings: dict[str, Any]
    increase: float | None
    problem: str = ""


class Tuning(msgspec.Struct, frozen=True, kw_only=True):
    """All that were tried, in the recipe's order."""

    tried: tuple[Tried, ...]

    @property
    def best(self) -> Tried:
        """The smallest increase; of equal ones the first."""
        return min(self.tried, key=lambda one: math.inf if one.increase is None else one.increase)


def check_tune(spec: ExportSpec) -> None:
    """Refuse what cannot be tried, before anything is trained.

    Raises:
        ConfigError, UnknownNameError: an unknown quantizer, setting or value, or a variant the recipe does not make.
        EnvironmentProblemError: nothing here can run the format.
    """
    for name, values in spec.tune.items():
        format, _, precision = name.partition(".")
        quantizer = QUANTIZERS[name]
        for settings in combinations(values):
            quantizer.configure({**spec.quantize.get(name, {}), **settings})
        if precision not in spec.formats.get(format, ()):
            raise ConfigError(f"export.tune: {name} is not among the formats", next=f"Add {precision} to {format}")
        if executor_of(format) is None:
            raise EnvironmentProblemError(f"nothing here can run {format}", next="See pocketface doctor")


def combinations(values: Mapping[str, tuple[Any, ...]]) -> list[dict[str, Any]]:
    """Every choice of one value for each setting."""
    return [dict(zip(values, chosen, strict=True)) for chosen in itertools.product(*values.values())]


def tune(
    name: str,
    values: Mapping[str, tuple[Any, ...]],
    folder: Path,
    trial: Callable[[Mapping[str, Any]], float],
    *,
    progress: bool = True,
) -> Tuning:
    """Try every combination; what was measured by a run that was killed is known.

    Args:
        name: of the quantizer.
        values: setting -> values.
        folder: where ``NAME.tuning.json`` goes.
        trial: settings -> increase of the task error, percentage points.
        progress: say what is tried.

    Raises:
        ConversionError: no combination gave a file; the last one's.
    """
    known = Trials(folder / f"{name}.trials.json")
    tried, every = [], combinations(values)
    for number, settings in enumerate(every, start=1):
        text = ", ".join(f"{key} {value}" for key, value in settings.items())
        try:
            if text not in known:
                say(f"tune {name} {number}/{len(every)}: {text}", show=progress)
                known.keep(text, trial(settings))
            tried.append(Tried(settings=settings, increase=known[text]))
        except ConversionError as error:
            # Some calibrators fail on activations that hardly vary; the others are there for that.
            tried.append(Tried(settings=settings, increase=None, problem=error.what))
            if all(one.increase is None for one in tried) and number == len(every):
                raise
    found = Tuning(tried=tuple(tried))
    (folder / f"{name}.tuning.json").write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1))
    return found


def tuning_of(exported: Exported) -> Tuning | None:
    """What was tried for a variant; None where nothing was."""
    path = exported.path.with_name(f"{exported.format}.{exported.precision}.tuning.json")
    return msgspec.json.decode(path.read_bytes(), type=Tuning) if path.exists() else None
