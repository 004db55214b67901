"""What must hold of a recipe of masks beyond its types: refused by name before anything is trained."""

from __future__ import annotations

import msgspec

from pocketface.benchmarks.latency import SETTLE_MS, check_plan
from pocketface.compression.pipeline.check import refuse_searches
from pocketface.compression.pipeline.gates import check_allowed
from pocketface.compression.recipe import ExportSpec
from pocketface.compression.segment_recipe import SegmentRecipe
from pocketface.compression.training.segment import build_segmenter
from pocketface.compression.variants import check_formats, check_settings
from pocketface.sdk.backends.registry import has_executor
from pocketface.sdk.errors import ConfigError
from pocketface.sdk.manifest import ClassSet


def check_segment_recipe(recipe: SegmentRecipe, classes: ClassSet) -> None:
    """Refuse a recipe whose networks do not exist or do not fit.

    Raises:
        ConfigError: naming the network, or the frame that does not fit the classes.
        UnknownNameError: no such model.
    """
    wanted = "face" if "skin" in classes.names else "image"
    if recipe.data.frame != wanted:
        # The runtime, parity and every figure take what `labelled_box` gives.
        raise ConfigError(
            f"data.frame {recipe.data.frame!r} with the classes {classes.name!r}",
            choices=[wanted],
            next="Write this one",
        )
    for model in recipe.timed.values():
        build_segmenter(msgspec.structs.replace(recipe.student, model=model), classes)
    for name, spec in recipe.networks().items():
        net = build_segmenter(spec, classes)
        given = len(spec.loss.class_weights)
        if given not in (0, len(classes.names)):
            raise ConfigError(
                f"{name}: {given} class_weights",
                expected=f"{len(classes.names)}, one for each class of {classes.name}; or none, for 1 each",
            )
        if net.previous and recipe.export.golden_faces < 2:
            raise ConfigError(
                f"export.golden_faces: {recipe.export.golden_faces} for {name}, which is shown the frame before",
                expected="2 or more frames of a video",
            )


def check_mask_export(recipe: SegmentRecipe) -> None:
    """Refuse what masks cannot be exported as, or nothing here could measure.

    Raises:
        ConfigError: naming the key.
        UnknownNameError: no such format.
        BadInputError: no plan of a measurement.
    """
    spec, bench = recipe.export, recipe.bench
    check_formats(spec.formats)
    check_settings(spec.options, spec.quantize)
    refuse_searches(spec)
    check_allowed(recipe.gates, spec.formats)
    check_plan(bench.threads, bench.runs, bench.warmup, SETTLE_MS)
    if spec.input != "normalised":
        raise ConfigError(f"export.input {spec.input!r} of masks", choices=["normalised"], next="Leave the key out")
    table_format(spec)


def table_format(spec: ExportSpec) -> str:
    """The format in which networks are held against each other: TFLite where the recipe has it and it runs here, else
    the first that does.

    Raises:
        ConfigError: none of them runs here.
    """
    able = [name for name in spec.formats if has_executor(name)]
    if not able:
        raise ConfigError(
            f"export.formats {', '.join(spec.formats)}: nothing here can run them",
            expected="one with a runtime on this machine, to be timed and filmed",
            next="Add onnx: [fp32]",
        )
    return "tflite" if "tflite" in able else able[0]
