"""Write a bundle: models, golden cases, card and manifest, complete or not at all; read back with `sdk.open_bundle`.

Only variants that passed their comparison with torch go in, and those that nothing here can run, if the recipe allows
them.
"""

from __future__ import annotations

import io
import logging
import os
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from pocketface.converters.candidate import Candidate, StageFiles, describe, select, ship
from pocketface.sdk import contract
from pocketface.sdk.bundle import open_bundle
from pocketface.sdk.errors import BadInputError, BundleError
from pocketface.sdk.files import atomic_folder, sha256, write_atomic
from pocketface.sdk.manifest import SCHEMA, FileEntry, Latency, Manifest, Provenance, Stage, Variant, encode
from pocketface.sdk.measured import ChainRun

__all__ = ["Candidate", "StageFiles", "add_measurements", "describe", "npz_bytes", "pack", "write_bundle"]

log = logging.getLogger(__name__)

_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The earliest time a zip file can hold: the same for every entry, so that equal bundles pack to equal bytes."""


def write_bundle(
    out: str | os.PathLike[str],
    *,
    name: str,
    default: str,
    golden: Sequence[Mapping[str, NDArray[Any]]],
    card: str,
    provenance: Provenance,
    weights_licence: str,
    stage: Stage | None = None,
    candidates: Sequence[Candidate] = (),
    stages: Sequence[StageFiles] = (),
    allow_unverified: Sequence[str] = (),
    metrics: Mapping[str, float] | None = None,
    runs: Sequence[ChainRun] = (),
    force: bool = False,
) -> Path:
    """Write a bundle folder. It appears under its name only when it is complete and its own reader accepts it.

    Candidates that failed are left out, and so are unverified ones that are not allowed; both are logged. Where a stage
    of a chain lacks a precision and format, it is no chain any more, but the other stages' files stay, for a mix.

    Args:
        out: the folder to write.
        name: of the bundle; files are called ``models/NAME.PRECISION.SUFFIX``, in a chain
            ``models/NAME.STAGE.PRECISION.SUFFIX``.
        default: id of the variant, or PRECISION.FORMAT of the chain, that is loaded when none is named; no mix. It must
            have passed, in every stage.
        golden: see ``reference.golden_case``; at least one.
        card: the model card, Markdown.
        provenance: recipe, data, tools.
        weights_licence: e.g. ``"Apache-2.0 (code), research only (trained on 300-W)"``.
        stage: of a bundle of one stage: everything but its variants, which are ignored.
        candidates: what could be shipped of it.
        stages: of a chain, in the order in which its stages run; instead of ``stage`` and ``candidates``.
        allow_unverified: ids of variants that may be shipped without having been run; in a chain, ``PRECISION.FORMAT``
            means that of every stage.
        metrics: of the torch network, or chain, on the test set.
        runs: what was measured of whole chains; those that are not shipped are left out.
        force: replace a bundle that is there.

    Returns:
        ``out``.

    Raises:
        GateFailedError: the default variant did not pass, or one stage of the default chain.
        BadInputError: ids that repeat, a mix as the default, names in ``default`` or ``allow_unverified`` that no
            candidate has, no golden case, no stage, or the folder exists.
        BundleError: the result contradicts itself, or its stages do not fit together (its reader's error).
        EnvironmentProblemError: the disk is full.
    """
    out = Path(out)
    parts = _parts(stage, candidates, stages)
    chosen = select(parts, default, allow_unverified)
    if not golden:
        raise BadInputError("no golden cases", expected="at least one", next="Draw some: pocketface synth")
    with atomic_folder(out, force=force) as folder:
        written = tuple(
            msgspec.structs.replace(
                part.stage,
                variants=tuple(
                    ship(candidate, folder, f"{name}.{part.stage.name}" if len(parts) > 1 else name, id, part.stage)
                    for id, candidate in kept.items()
                ),
            )
            for part, kept in zip(parts, chosen.stages, strict=True)
        )
        manifest = Manifest(
            schema=SCHEMA,
            name=name,
            default=default,
            stages=written,
            golden=tuple(
                _entry(folder, f"golden/{number:03d}.npz", npz_bytes(case)) for number, case in enumerate(golden)
            ),
            card=_entry(folder, "card.md", card.encode()),
            provenance=provenance,
            weights_licence=weights_licence,
            allow_unverified=chosen.allow_unverified,
            metrics=dict(metrics or {}),
        )
        manifest = msgspec.structs.replace(manifest, runs=tuple(run for run in runs if _is_shipped(run, manifest)))
        (folder / "manifest.json").write_bytes(encode(manifest))
        with open_bundle(folder) as bundle:
            bundle.golden()
    return out


def add_measurements(
    folder: str | os.PathLike[str],
    *,
    latency: Mapping[str, Sequence[Latency]] | None = None,
    metrics: Mapping[str, Mapping[str, float]] | None = None,
    runs: Sequence[ChainRun] = (),
) -> None:
    """Add what was measured on a finished bundle (a folder) to its manifest; the files stay as they are.

    Args:
        folder: the bundle.
        latency: variant id -> one entry per thread count; replaces what was there. Unverified variants have none.
        metrics: variant id -> figures, merged into those that are there.
        runs: of whole chains; each replaces the one of its id.

    Raises:
        BadInputError: an id that the bundle does not have, or latency of a variant that did not pass.
        BundleError: a run of a chain that the bundle does not have, or of a single network.
    """
    latency, metrics = latency or {}, metrics or {}
    with open_bundle(folder) as bundle:
        manifest, root = bundle.manifest, bundle.root
    variants = {variant.id: variant for stage in manifest.stages for variant in stage.variants}
    for id in (*latency, *metrics):
        if id not in variants:
            raise BadInputError(f"bundle {manifest.name!r} has no variant {id!r}", choices=variants)
        if id in latency and variants[id].status != "passed":
            raise BadInputError(f"latency of variant {id!r}, which is {variants[id].status}", expected="a passed one")

    def measured(variant: Variant) -> Variant:
        return msgspec.structs.replace(
            variant,
            latency=tuple(latency.get(variant.id, variant.latency)),
            metrics={**variant.metrics, **metrics.get(variant.id, {})},
        )

    stages = tuple(
        msgspec.structs.replace(stage, variants=tuple(measured(variant) for variant in stage.variants))
        for stage in manifest.stages
    )
    for run in runs:
        manifest.chain(run.id)
    every = tuple({run.id: run for run in (*manifest.runs, *runs)}.values())
    changed = msgspec.structs.replace(manifest, stages=stages, runs=every)
    contract.check_manifest(changed)
    write_atomic(root / "manifest.json", encode(changed), force=True)


def pack(folder: str | os.PathLike[str], path: str | os.PathLike[str], *, force: bool = False) -> Path:
    """Zip a bundle folder into one ``.pface`` file: what its manifest lists and nothing else; equal bundles give equal
    bytes.

    Args:
        folder: the bundle; it is opened and checked first.
        path: the file to write, ``NAME.pface``.
        force: replace a file that is there.

    Raises:
        BadInputError: another suffix, or the file exists.
        BundleError: the folder is no sound bundle.
    """
    path = Path(path)
    if path.suffix != ".pface":
        raise BadInputError(f"{path}: suffix {path.suffix!r}", expected=".pface")
    buffer = io.BytesIO()
    with open_bundle(folder) as bundle, zipfile.ZipFile(buffer, "w") as archive:
        # The manifest first, so that it can be read from the beginning of the file.
        names = ["manifest.json", *sorted(entry.path for entry in contract.files(bundle.manifest))]
        for name in names:
            entry = zipfile.ZipInfo(name, date_time=_EPOCH)
            entry.compress_type, entry.external_attr, entry.create_system = zipfile.ZIP_DEFLATED, 0o644 << 16, 3
            archive.writestr(entry, (bundle.root / name).read_bytes(), compresslevel=6)
    write_atomic(path, buffer.getvalue(), force=force)
    return path


def npz_bytes(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Arrays as a compressed ``.npz``; equal arrays give equal bytes (``numpy.savez`` writes the time of day)."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in sorted(arrays):
            content = io.BytesIO()
            np.lib.format.write_array(content, np.ascontiguousarray(arrays[name]).reshape(np.shape(arrays[name])))
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=_EPOCH)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            archive.writestr(entry, content.getvalue())
    return buffer.getvalue()


def _parts(stage: Stage | None, candidates: Sequence[Candidate], stages: Sequence[StageFiles]) -> Sequence[StageFiles]:
    if (stage is None) == (not stages) or (stages and candidates):
        given = "both" if stages else "neither"
        raise BadInputError(f"{given} of a stage with its candidates and stages", expected="one of them")
    return stages if stage is None else (StageFiles(stage, candidates),)


def _is_shipped(run: ChainRun, manifest: Manifest) -> bool:
    try:
        manifest.chain(run.id)
    except BundleError as error:
        log.warning("left out: what was measured of %s: %s", run.id, error.what)
        return False
    return True


def _entry(folder: Path, path: str, data: bytes) -> FileEntry:
    """Write a file of the bundle and give its manifest entry."""
    target = folder / path
    target.parent.mkdir(exist_ok=True)
    target.write_bytes(data)
    return FileEntry(path=path, bytes=len(data), sha256=sha256(target))
