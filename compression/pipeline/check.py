"""What must hold of a recipe of one landmark network beyond its types: refused by name before anything is trained."""

from __future__ import annotations

import msgspec

from pocketface.compression.losses.registry import build_loss
from pocketface.compression.models.registry import build_model
from pocketface.compression.pipeline.calibration import check_calibration
from pocketface.compression.pipeline.mixed import check_mixed
from pocketface.compression.pipeline.qat import qat_config
from pocketface.compression.pipeline.tune import check_tune
from pocketface.compression.prune.registry import PRUNERS
from pocketface.compression.quantize.qat import rounded
from pocketface.compression.recipe import ExportSpec, Recipe
from pocketface.compression.variants import check_formats, check_settings
from pocketface.sdk.errors import ConfigError
from pocketface.sdk.schemes import load_scheme


def refuse_searches(spec: ExportSpec) -> None:
    """Refuse, in a recipe of several networks or of masks, what is decided on the faces of one landmark network.

    Raises:
        ConfigError: naming the key.
    """
    for key in ("mixed", "tune", "calibration_by"):
        if getattr(spec, key):
            raise ConfigError(f"export.{key}", expected="a recipe of one landmark network", next=f"Leave {key} out")


def check_recipe(recipe: Recipe) -> None:
    """Refuse networks, losses, formats and settings that do not exist or do not fit.

    Raises:
        ConfigError, UnknownNameError: naming the key.
        MissingExtraError: a package that a method needs is not installed.
    """
    scheme = load_scheme(recipe.data.scheme)
    points = scheme.points
    build_loss(recipe.student.loss)
    student, *_ = [
        build_model(msgspec.structs.replace(spec.model, init="scratch"), n_points=points)
        for spec in (recipe.student, *recipe.teachers.values())
    ]
    check_formats(recipe.export.formats)
    check_settings(recipe.export.options, recipe.export.quantize)
    check_calibration(recipe.export, scheme)
    check_tune(recipe.export)
    check_mixed(recipe.export)
    if recipe.prune is not None:
        PRUNERS[recipe.prune.method].check(student, recipe.prune.options)
    if recipe.qat is not None:
        rounded(student.features, student.input_size, qat_config(recipe.qat))
