"""The recipe of a detector's bundle: weights that exist, no training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from pocketface.compression.recipe import SCHEMA, Config
from pocketface.compression.recipe_file import parse_recipe, read_yaml
from pocketface.compression.variants import check_formats, check_settings, precisions
from pocketface.sdk.detector_spec import FaceBox
from pocketface.sdk.errors import ConfigError


class DetectorData(Config, frozen=True, kw_only=True):
    """Annotated faces, one a picture: the first split calibrates and fits the box, the second measures."""

    name: str
    format: str
    train: tuple[str, ...]
    test: tuple[str, ...]


class DetectorSettings(Config, frozen=True, kw_only=True):
    """How the output is read: see `DetectorSpec`."""

    min_score: float = 0.5
    max_overlap: float = 0.3
    face_box: FaceBox = FaceBox()


class DetectorGates(Config, frozen=True, kw_only=True):
    """What a variant has to keep.

    Attributes:
        max_tensor_error: precision -> largest error of a probability, or of a coordinate in crop sides where a face is.
        max_missed: percent of the test faces.
        max_box_error_increase: precision -> over torch's box error, percent of a side.
        max_mb: millions of bytes of the packed bundle.
    """

    max_tensor_error: dict[str, float]
    max_box_error_increase: dict[str, float]
    max_missed: float = 1.0
    max_mb: float = 0.6


class DetectorRecipe(Config, frozen=True, kw_only=True):
    """The whole recipe.

    Attributes:
        formats: format -> precisions that are made and judged.
        quantize: settings of quantizers, by FORMAT.PRECISION.
        ship, default: ids of the variants that the bundle holds, and of the one that is loaded when none is named.
        calibration_faces: training pictures that 8-bit activations are ranged on.
        golden_cases: how many the bundle holds.
    """

    schema: int = SCHEMA
    name: str
    data: DetectorData
    detector: DetectorSettings = DetectorSettings()
    formats: dict[str, tuple[str, ...]]
    quantize: dict[str, dict[str, Any]] = msgspec.field(default_factory=dict)
    ship: tuple[str, ...]
    default: str
    calibration_faces: int = 64
    golden_cases: int = 2
    gates: DetectorGates
    weights_licence: str

    def __post_init__(self) -> None:
        check_formats(self.formats)
        check_settings({}, self.quantize)
        made = [f"{precision}.{name}" for name, kinds in self.formats.items() for precision in kinds]
        for id in (*self.ship, self.default):
            if id not in made:
                raise ConfigError(f"ship: {id!r} is not made", choices=made)
        if self.default not in self.ship:
            raise ConfigError(f"default: {self.default!r} is not shipped", choices=self.ship)
        for precision in {kind for kinds in self.formats.values() for kind in kinds}:
            for key in ("max_tensor_error", "max_box_error_increase"):
                if precision not in getattr(self.gates, key):
                    known = sorted({kind for name in self.formats for kind in precisions(name)})
                    raise ConfigError(f"gates.{key}: none for {precision!r}", choices=known)
        if self.calibration_faces < 1 or self.golden_cases < 1:
            raise ConfigError("calibration_faces and golden_cases", expected="1 or more each")


def load_detector_recipe(path: Path, overrides: tuple[str, ...] = ()) -> DetectorRecipe:
    """Read it.

    Raises:
        ConfigError: the file is missing or not YAML, a key is unknown, a value has the wrong type or contradicts
            others.
    """
    return parse_recipe(read_yaml(path, overrides), str(path), DetectorRecipe)


def recipe_json(recipe: DetectorRecipe) -> bytes:
    """Its content, whatever its file's layout: what its hash is of."""
    return msgspec.json.encode(recipe, order="deterministic")
