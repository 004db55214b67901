"""Before any training: does every network of a recipe convert to every format and precision the recipe asks for?"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from pocketface.compression.chain_recipe import ChainRecipe
from pocketface.compression.models.registry import ModelSpec
from pocketface.compression.pipeline.segment.check import check_mask_export, check_segment_recipe
from pocketface.compression.recipe_file import AnyRecipe
from pocketface.compression.segment_recipe import SegmentRecipe
from pocketface.compression.trial import Trial, random_network, try_variants
from pocketface.compression.variants import check_formats, check_settings
from pocketface.sdk.classes import load_classes
from pocketface.sdk.errors import BadInputError
from pocketface.sdk.schemes import load_scheme


def networks(recipe: AnyRecipe) -> dict[str, ModelSpec]:
    """The recipe's different networks: role -> what to build. Of one network's recipe, the student comes first; it is
    what ships."""
    if isinstance(recipe, ChainRecipe | SegmentRecipe):
        found = {name: spec.model for name, spec in recipe.networks().items()}
    else:
        found = {"student": recipe.student.model, **{name: spec.model for name, spec in recipe.teachers.items()}}
        if recipe.ablation is not None:
            found["ablation"] = recipe.ablation.model
    different: dict[str, ModelSpec] = {}
    seen: dict[bytes, str] = {}
    for role, spec in found.items():
        key = msgspec.json.encode(msgspec.structs.replace(spec, init="scratch"))
        if key in seen:
            first = seen[key]
            different[f"{first}, {role}"] = different.pop(first)
            seen[key] = f"{first}, {role}"
        else:
            different[role], seen[key] = spec, role
    return different


def preflight(
    recipe: AnyRecipe,
    *,
    roles: tuple[str, ...] = (),
    formats: tuple[str, ...] = (),
    say: Callable[[str], None] = lambda text: None,
) -> Iterator[Trial]:
    """Build each network with random weights and make, run and judge every variant.

    Args:
        recipe: what will be trained.
        roles: ``"student"``, names of teachers, ``"ablation"``; of a chain, ``ChainRecipe.networks``; of masks,
            ``SegmentRecipe.networks``: ``"teacher"``, ``"student"``, ``"row-NAME"`` (default: all).
        formats: of the recipe's (default: all).
        say: told before each variant.

    Yields:
        One trial a variant.

    Raises:
        ConfigError, UnknownNameError: the recipe names formats, precisions, settings, landmarks or classes that do not
            exist, or asks for what masks do not have.
        BadInputError: a role or format that the recipe does not have.
    """
    spec = recipe.export
    check_formats(spec.formats)
    check_settings(spec.options, spec.quantize)
    every = networks(recipe)
    known = [role for name in every for role in name.split(", ")]
    _refuse_unknown("network", roles, known)
    _refuse_unknown("format", formats, list(spec.formats))
    wanted = {name: spec.formats[name] for name in spec.formats if not formats or name in formats}
    if isinstance(recipe, SegmentRecipe):
        classes = load_classes(recipe.data.classes)
        check_mask_export(recipe)
        check_segment_recipe(recipe, classes)
        outputs = {"n_classes": len(classes.names)}
    else:
        outputs = {"n_points": load_scheme(recipe.data.scheme).points}
    for name, model in every.items():
        if roles and not set(roles) & set(name.split(", ")):
            continue
        net = random_network(model, seed=recipe.seed, pixels=spec.input == "pixels", **outputs)
        with tempfile.TemporaryDirectory(prefix="pocketface-preflight-") as folder:
            yield from try_variants(
                f"{model.name} {model.input_size} ({name})",
                net,
                model.input_size,
                wanted,
                Path(folder),
                options=spec.options,
                quantize=spec.quantize,
                say=say,
            )


def _refuse_unknown(kind: str, wanted: tuple[str, ...], known: list[str]) -> None:
    for name in wanted:
        if name not in known:
            raise BadInputError(f"the recipe has no {kind} {name!r}", choices=known)
