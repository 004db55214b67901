"""Whole chains on annotated faces: the landmarks that come out at the end, against those of the fp32 chain."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from pocketface.benchmarks.data.face import Face
from pocketface.benchmarks.metrics import face_errors
from pocketface.converters.executors import executor_of
from pocketface.converters.verify_report import ChainCheck, VariantCheck
from pocketface.sdk.backends.base import Backend
from pocketface.sdk.bundle import Bundle
from pocketface.sdk.errors import PocketfaceError
from pocketface.sdk.images import read_image
from pocketface.sdk.manifest import Manifest
from pocketface.sdk.predictor import Predictor

SLACK = 0.1
"""Of a chain's NME, in percentage points, beside what its landmark network may add to its own NME: the stages before it
may move its crop, or change its picture, a little. Their own task errors are in other units and widen nothing."""


def chains_of(manifest: Manifest, ids: Sequence[str]) -> list[str]:
    """Ids of the chains that these variants make up, mixes that were measured included; of a single network, none."""
    if len(manifest.stages) < 2:
        return []
    named = (*manifest.chains, *(run.id for run in manifest.runs))
    return [id for id in dict.fromkeys(named) if all(variant.id in ids for _, variant in manifest.chain(id))]


def check_chains(
    bundle: Bundle,
    chains: Sequence[str],
    checks: Mapping[str, VariantCheck],
    faces: Sequence[Face],
    step: Callable[[], None],
) -> tuple[ChainCheck, ...]:
    """Run chains on annotated faces, each in its ground-truth box.

    Args:
        bundle: the bundle.
        chains: see ``chains_of``.
        checks: variant id -> what is known about it.
        faces: at least one.
        step: called after each chain.

    Returns:
        One entry a chain. The reference is the first fp32 chain (the bundle's own choice before the others) whose
        variants all passed.

    Raises:
        BadInputError: a face's image cannot be read.
    """
    manifest = bundle.manifest
    measured: dict[str, float | PocketfaceError] = {}
    for id in chains:
        if all(checks[variant.id].executor for _, variant in manifest.chain(id)):
            measured[id] = _nme(bundle, id, faces)
        step()
    sound = [
        id
        for id in sorted(chains, key=lambda id: id != manifest.default)
        if isinstance(measured.get(id), float)
        and all(v.precision == "fp32" and checks[v.id].status == "passed" for _, v in manifest.chain(id))
    ]
    reference = measured[sound[0]] if sound else None
    return tuple(_check(manifest, id, measured.get(id), reference, checks) for id in chains)


def _check(
    manifest: Manifest,
    id: str,
    found: float | PocketfaceError | None,
    reference: float | PocketfaceError | None,
    checks: Mapping[str, VariantCheck],
) -> ChainCheck:
    variants = [variant for _, variant in manifest.chain(id)]
    bound = SLACK + (variants[-1].tolerances.max_nme_increase or 0.0)
    if found is None:
        missing = ", ".join(variant.id for variant in variants if not checks[variant.id].executor)
        return ChainCheck(id, "unchecked", (f"{missing} could not be run here",), bound=bound)
    if isinstance(found, PocketfaceError):
        return ChainCheck(id, "failed", (found.what,), bound=bound)
    if not isinstance(reference, float):
        return ChainCheck(id, "failed", ("no fp32 chain passed, so its NME has no reference",), found, bound=bound)
    # Written so that NaN fails.
    if not found - reference <= bound:
        reason = f"annotated faces: NME increase {found - reference:.4g} > {bound:g} percentage points over fp32"
        return ChainCheck(id, "failed", (reason,), found, reference, bound)
    return ChainCheck(id, "passed", (), found, reference, bound)


def _nme(bundle: Bundle, id: str, faces: Sequence[Face]) -> float | PocketfaceError:
    """In percent; what a runtime refuses is the chain's fault."""
    executors = {variant.format: executor_of(variant.format) for _, variant in bundle.manifest.chain(id)}
    given: dict[str, type[Backend]] = {name: executor for name, executor in executors.items() if executor is not None}
    try:
        predictor = Predictor(bundle, variant=id, executor=given)
    except PocketfaceError as error:
        return error
    found = []
    for face in faces:
        image = read_image(face.image)  # not the chain's fault
        try:
            found.append(predictor(image, [face.box])[0].points)
        except PocketfaceError as error:
            return error
    truth = np.stack([face.points for face in faces])
    return 100 * float(face_errors(np.stack(found), truth, bundle.manifest.landmarks.marks.normaliser).mean())
