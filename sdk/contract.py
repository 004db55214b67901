"""What a manifest must hold beyond its types: names that exist, shapes that agree, paths that stay inside."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterator

import msgspec
import numpy as np

from pocketface.sdk import detector_contract, limits, mask_contract
from pocketface.sdk.chain_contract import AGAIN, check_chain, check_names, unique, wrong
from pocketface.sdk.errors import BundleError, ConfigError
from pocketface.sdk.limits import check_count, check_shape, check_values
from pocketface.sdk.manifest import Binding, FileEntry, Manifest, OutputSpec, Stage, TensorSpec, Variant
from pocketface.sdk.schemes import check_scheme

SINGLE_FILE = ("onnx", "tflite", "executorch")
"""Formats whose variants are exactly one file; the others are folders."""

POINTS = ("normalised_points", "unit_points", "pixel_points")
"""The decodings that give landmarks."""

MANIFEST, SIGNATURE = "manifest.json", "model.sig"
"""Files beside the card: the contract, and, if the bundle is signed (signing.py), who says so."""

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def check_manifest(manifest: Manifest) -> None:
    """Refuse a manifest that contradicts itself, or asks for more than any network needs (limits.py).

    Raises:
        BundleError: naming the first contradiction.
    """
    check_values(msgspec.to_builtins(manifest))
    _check_counts(manifest)
    if not manifest.stages:
        raise wrong("no stages", "at least one")
    if not manifest.golden:
        raise wrong("no golden cases", "at least one, or nothing proves that a variant still gives what was trained")
    _check_files(manifest)
    unique("stage", [stage.name for stage in manifest.stages])
    ids = [variant.id for stage in manifest.stages for variant in stage.variants]
    unique("variant", ids)
    if len(manifest.stages) > 1:
        check_names(manifest.stages)
    chains = manifest.chains
    if manifest.default not in chains:
        kind = "chain" if len(manifest.stages) > 1 else "variant"
        raise BundleError(
            f"manifest.json: default {kind} {manifest.default!r} does not exist", choices=chains, next=AGAIN
        )
    reference = manifest.provenance.reference
    if reference and reference not in ids:
        raise BundleError(f"manifest.json: reference variant {reference!r} does not exist", choices=ids, next=AGAIN)
    for stage in manifest.stages:
        _check_stage(stage)
    check_chain(manifest.stages)
    if manifest.runs and len(manifest.stages) == 1:
        raise wrong(f"run {manifest.runs[0].id!r} of a chain, and one stage", "runs of a chain of stages only")
    unique("run", [run.id for run in manifest.runs])
    for run in manifest.runs:
        manifest.chain(run.id)


def files(manifest: Manifest) -> Iterator[FileEntry]:
    """Every file that the manifest lists."""
    for stage in manifest.stages:
        for variant in stage.variants:
            yield from variant.files
    yield from manifest.golden
    yield manifest.card


def check_path(path: str) -> None:
    """Refuse a path that is not plainly inside the bundle, on any system.

    Raises:
        BundleError: absolute, with ``..``, a backslash, a colon, a control character, or a part some system changes.
    """
    parts = path.split("/")
    bad = (
        len(path) > 240
        or any(part in ("", ".", "..") or part.endswith((".", " ")) for part in parts)
        or any(character in '\\:*?"<>|' or not character.isprintable() for character in path)
    )
    if bad:
        raise BundleError(
            f"path {path[:240]!r} is not allowed in a bundle",
            expected="a plain relative path with forward slashes, below the bundle's folder",
            next="Do not trust this bundle; fetch or build it again",
        )


def path_key(path: str) -> str:
    """Two paths with the same key are the same file on some system."""
    return unicodedata.normalize("NFC", path).casefold()


def _check_counts(manifest: Manifest) -> None:
    """First of all, so that whatever looks at every pair of things has few of them."""
    check_count("stages", manifest.stages, limits.MAX_STAGES)
    check_count("golden cases", manifest.golden, limits.MAX_GOLDEN)
    check_count("runs", manifest.runs, limits.MAX_RUNS)
    for stage in manifest.stages:
        for kind, items in (("inputs", stage.inputs), ("outputs", stage.outputs), ("states", stage.states)):
            check_count(f"{kind} of stage {stage.name!r}", items, limits.MAX_TENSORS)
        check_count(f"variants of stage {stage.name!r}", stage.variants, limits.MAX_VARIANTS)
    check_count("files", tuple(files(manifest)), limits.MAX_ENTRIES)


def _check_files(manifest: Manifest) -> None:
    total = sum(max(entry.bytes, 0) for entry in files(manifest))
    if total > limits.MAX_TOTAL_BYTES:
        raise wrong(f"its files have {total} bytes", f"at most {limits.MAX_TOTAL_BYTES}")
    for entry in files(manifest):
        check_path(entry.path)
        if entry.bytes < 0 or not _SHA256.fullmatch(entry.sha256):
            raise wrong(f"{entry.path} has size {entry.bytes} and hash {entry.sha256!r}", "a size and a SHA-256 in hex")
    unique("file", [path_key(entry.path) for entry in files(manifest)])
    for entry in manifest.golden:
        if not re.fullmatch(r"golden/[^/]+\.npz", entry.path):
            raise wrong(f"golden case {entry.path!r}", "golden/NAME.npz")
    if "/" in manifest.card.path or path_key(manifest.card.path) in (MANIFEST, SIGNATURE):
        raise wrong(f"card {manifest.card.path!r}", "card.md beside the manifest")


def _check_stage(stage: Stage) -> None:
    where, size = f"stage {stage.name!r}", stage.preprocess.size
    if not 1 <= size <= limits.MAX_SIDE:
        raise wrong(f"{where} has input size {size}", f"1 to {limits.MAX_SIDE}")
    mean, std, scale = stage.preprocess.mean, stage.preprocess.std, stage.preprocess.box_scale
    if not (
        all(abs(value) <= 1e6 for value in mean)
        and all(1e-6 <= value <= 1e6 for value in std)
        and 0.01 <= scale <= 100  # a crop of a thousand faces' width would be a picture of nothing, at a price
    ):
        raise wrong(
            f"{where} has preprocessing {(*mean, *std, scale)}",
            "finite means, and deviations and a scale above 0: within 1e6, 1e-6 to 1e6, and 0.01 to 100",
        )
    unique(f"{where} tensor", [spec.name for spec in (*stage.inputs, *stage.outputs)])
    image = {spec.name: spec.shape for spec in stage.inputs}.get("image")
    if image != (1, 3, size, size):
        raise wrong(f"{where} has input 'image' of shape {image}", f"(1, 3, {size}, {size})")
    _check_types(where, stage)
    _check_outputs(where, stage)
    shapes = [(part.name, part.shape) for part in (*stage.inputs, *stage.outputs)]
    shapes += [(state.name, state.shape) for state in stage.states]
    for name, shape in shapes:
        check_shape(f"{where}, tensor {name!r}", shape)
    for variant in stage.variants:
        _check_variant(variant, stage)


def _check_outputs(where: str, stage: Stage) -> None:
    """Outputs that fit the stage's task, and landmarks that fit its scheme."""
    size, decodes = stage.preprocess.size, [spec.decode for spec in stage.outputs]
    if stage.task == "landmarks":
        if stage.scheme is None:
            raise wrong(f"{where} finds landmarks and has no scheme", "the scheme that names them")
        try:
            check_scheme(stage.scheme)
        except ConfigError as error:
            raise BundleError(f"manifest.json: {error.what}", expected=error.expected, next=AGAIN) from error
    elif stage.scheme is not None:
        raise wrong(f"{where} has the task {stage.task} and a scheme", "a scheme for landmarks only")
    if stage.detector is not None and stage.task != "detection":
        raise wrong(f"{where} has the task {stage.task} and a detector", "a detector for a detection only")
    if stage.task == "segmentation":
        mask_contract.check_stage(where, stage)
        return
    if stage.classes is not None:
        raise wrong(f"{where} has the task {stage.task} and classes", "classes for a segmentation only")
    if stage.task == "detection":
        detector_contract.check_stage(where, stage)
        return
    shapes: dict[str, tuple[int, ...]] = {
        "face_logit": (1,),
        "head_pose": (1, 3),
        "box_correction": (1, 4),
        "unit_image": (1, 3, size, size),
    }
    if stage.scheme is not None:
        shapes |= dict.fromkeys(POINTS, (1, stage.scheme.points, 2))
    for spec in stage.outputs:
        shape = shapes.get(spec.decode)
        if shape is not None and spec.shape != shape:
            like = ", the size of its input" if spec.decode == "unit_image" else ""
            raise wrong(f"{where}, output {spec.name!r} has shape {spec.shape}", f"{shape}{like}")
    found = f"{where} decodes to {', '.join(decodes) or 'nothing'}"
    only = {"relocalize": "box_correction", "uniformize": "unit_image"}.get(stage.task)
    if only is not None and decodes != [only]:
        raise wrong(found, f"one output, {only}")
    if only is None and not (
        sum(kind in POINTS for kind in decodes) == 1
        and set(decodes) <= {*POINTS, "face_logit", "head_pose"}
        and max(decodes.count("face_logit"), decodes.count("head_pose")) <= 1
    ):
        raise wrong(found, f"one of {', '.join(POINTS)}, and at most one face_logit and one head_pose")


def _check_types(where: str, stage: Stage) -> None:
    """float32 throughout, but for an image of pixels that the network normalises itself."""
    for spec in (*stage.inputs, *stage.outputs):
        pixels = spec.name == "image" and bool(stage.preprocess.inside)
        if spec.dtype != ("uint8" if pixels else "float32"):
            inside = f"preprocess.inside {stage.preprocess.inside!r}"
            raise wrong(
                f"{where}, tensor {spec.name!r} is {spec.dtype} with {inside}",
                "uint8 for an image that is normalised inside the network, float32 for everything else",
            )


def _check_variant(variant: Variant, stage: Stage) -> None:
    where = f"variant {variant.id!r}"
    if not _ID.fullmatch(variant.id):
        raise wrong(where, "an id of letters, digits and . _ + -")
    if not variant.files or (variant.format in SINGLE_FILE and len(variant.files) != 1):
        expected = "one file" if variant.format in SINGLE_FILE else "at least one file"
        raise wrong(f"{where} lists {len(variant.files)} files", expected)
    tops = {"/".join(entry.path.split("/")[:2]) for entry in variant.files}
    single = variant.format in SINGLE_FILE
    if len(tops) != 1 or any(
        not entry.path.startswith("models/") or (entry.path.count("/") == 1) != single for entry in variant.files
    ):
        expected = "models/FILE" if single else "files below one folder models/NAME"
        raise wrong(f"{where} lists {', '.join(entry.path for entry in variant.files[:3])}", expected)
    if variant.status == "passed" and variant.parity is None:
        raise wrong(f"{where} has passed without a comparison", "its parity, or the status 'unverified'")
    if variant.status != "passed" and not variant.reason:
        raise wrong(f"{where} is {variant.status} without a reason", "the reason")
    _check_bindings(where, variant.inputs, stage.inputs)
    _check_bindings(where, variant.outputs, stage.outputs)
    unique(f"{where}, output", [*(binding.tensor for binding in variant.outputs.values()), *variant.unused])


def same_values(found: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Whether an output of the first shape holds the second's values in the same order: apart from sides of 1 it has
    the same sides, or is flat."""
    return tuple(side for side in found if side != 1) in (
        tuple(side for side in wanted if side != 1),
        tuple(side for side in (math.prod(wanted),) if side != 1),
    )


def _check_bindings(where: str, bindings: dict[str, Binding], specs: tuple[TensorSpec, ...]) -> None:
    check_count(f"bindings of {where}", tuple(bindings), limits.MAX_TENSORS)
    if set(bindings) != {spec.name for spec in specs}:
        names = ", ".join(spec.name for spec in specs)
        raise wrong(f"{where} binds {', '.join(bindings) or 'nothing'}", names)
    for spec in specs:
        binding, shape = bindings[spec.name], spec.shape
        if binding.layout == "NHWC" and len(shape) == 4:
            shape = (shape[0], shape[2], shape[3], shape[1])
        if binding.shape != shape and not (isinstance(spec, OutputSpec) and same_values(binding.shape, shape)):
            raise wrong(f"{where}, tensor {spec.name!r} has shape {binding.shape}", str(shape))
        if spec.dtype == "uint8":
            if binding.dtype != "uint8" or binding.scale is not None or binding.zero_point is not None:
                raise wrong(
                    f"{where}, tensor {spec.name!r} is {binding.dtype} with scale {binding.scale}",
                    "uint8 without a scale: the contract feeds pixels",
                )
            continue
        whole = binding.dtype in ("int8", "uint8")
        if whole != (binding.scale is not None) or (binding.scale is None and binding.zero_point is not None):
            raise wrong(
                f"{where}, tensor {spec.name!r} is {binding.dtype} with scale {binding.scale}",
                "a scale for integers only",
            )
        if binding.scale is not None:
            ends, zero = np.iinfo(binding.dtype), binding.zero_point or 0
            if not (1e-30 <= binding.scale <= 1e30 and ends.min <= zero <= ends.max):  # as a float32, too
                raise wrong(
                    f"{where}, tensor {spec.name!r} has scale {binding.scale}, zero point {zero}", "a usable one"
                )
