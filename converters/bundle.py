"""Write a bundle: models, golden cases, card and manifest, complete or not at all; read back with `sdk.open_bundle`.

Only variants that passed their comparison with torch go in, and those that nothing here can run, if the recipe allows
them.
"""

from __future__ import annotations

import io
import logging
import os
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from pocketface.converters.formats.base import Exported
from pocketface.converters.verdict import GATES, ParityResult, judge
from pocketface.sdk import contract
from pocketface.sdk.bundle import open_bundle
from pocketface.sdk.errors import BadInputError, GateFailedError
from pocketface.sdk.files import atomic_folder, os_problem, sha256, write_atomic
from pocketface.sdk.manifest import (
    SCHEMA,
    FileEntry,
    Latency,
    Manifest,
    Provenance,
    Stage,
    Tolerances,
    Variant,
    encode,
)

log = logging.getLogger(__name__)

Status = Literal["passed", "failed", "unverified"]

_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The earliest time a zip file can hold: the same for every entry, so that equal bundles pack to equal bytes."""


@dataclass(frozen=True)
class Candidate:
    """An exported file with what is known about it.

    Attributes:
        exported: the file.
        parity: its comparison with torch, or None where nothing here can run it.
        tolerances: its bounds; default: those of its precision.
        metrics: e.g. nme on the test set.
        latency: as measured.
        problems: what the post-export audit found in the file; such a candidate has failed.
        unrun: why nothing here can run it, where that is known better than by its format.
    """

    exported: Exported
    parity: ParityResult | None
    tolerances: Tolerances | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    latency: tuple[Latency, ...] = ()
    problems: tuple[str, ...] = ()
    unrun: str = ""

    @property
    def id(self) -> str:
        """``PRECISION.FORMAT``, e.g. ``"w8a8.tflite"``."""
        return f"{self.exported.precision}.{self.exported.format}"

    @property
    def bounds(self) -> Tolerances:
        return self.tolerances or GATES.get(self.exported.precision, Tolerances())

    @property
    def status(self) -> Status:
        if self.problems:
            return "failed"
        return "unverified" if self.parity is None else judge(self.parity, self.bounds).status

    @property
    def reason(self) -> str:
        """Why it did not pass; empty if it did."""
        if self.parity is None:
            unrun = self.unrun or f"nothing on the machine that built this can run {self.exported.format}"
            found = "" if self.problems else unrun
        else:
            found = judge(self.parity, self.bounds).reason
        return "; ".join(filter(None, (*self.problems, found)))


def write_bundle(
    out: str | os.PathLike[str],
    *,
    name: str,
    stage: Stage,
    candidates: Sequence[Candidate],
    default: str,
    golden: Sequence[Mapping[str, NDArray[Any]]],
    card: str,
    provenance: Provenance,
    weights_licence: str,
    allow_unverified: Sequence[str] = (),
    metrics: Mapping[str, float] | None = None,
    force: bool = False,
) -> Path:
    """Write a bundle folder. It appears under its name only when it is complete and its own reader accepts it.

    Candidates that failed are left out, and so are unverified ones that are not allowed; both are logged.

    Args:
        out: the folder to write.
        name: of the bundle; files are called ``models/NAME.PRECISION.SUFFIX``.
        stage: everything but its variants, which are ignored.
        candidates: what could be shipped.
        default: id of the variant that is loaded when none is named; must have passed.
        golden: see ``reference.golden_case``; at least one.
        card: the model card, Markdown.
        provenance: recipe, data, tools.
        weights_licence: e.g. ``"Apache-2.0 (code), research only (trained on 300-W)"``.
        allow_unverified: ids of variants that may be shipped without having been run.
        metrics: of the torch network on the test set.
        force: replace a bundle that is there.

    Returns:
        ``out``.

    Raises:
        GateFailedError: the default variant did not pass.
        BadInputError: ids that repeat, names in ``default`` or ``allow_unverified`` that no candidate has, no golden
            case, or the folder exists.
        BundleError: the result contradicts itself (its reader's error).
        EnvironmentProblemError: the disk is full.
    """
    out = Path(out)
    shipped = _selected(candidates, default, allow_unverified)
    if not golden:
        raise BadInputError("no golden cases", expected="at least one", next="Draw some: pocketface synth")
    with atomic_folder(out, force=force) as folder:
        variants = tuple(_shipped(candidate, folder, name) for candidate in shipped)
        manifest = Manifest(
            schema=SCHEMA,
            name=name,
            default=default,
            stages=(msgspec.structs.replace(stage, variants=variants),),
            golden=tuple(
                _entry(folder, f"golden/{number:03d}.npz", npz_bytes(case)) for number, case in enumerate(golden)
            ),
            card=_entry(folder, "card.md", card.encode()),
            provenance=provenance,
            weights_licence=weights_licence,
            allow_unverified=tuple(allow_unverified),
            metrics=dict(metrics or {}),
        )
        (folder / "manifest.json").write_bytes(encode(manifest))
        with open_bundle(folder) as bundle:
            bundle.golden()
    return out


def add_measurements(
    folder: str | os.PathLike[str],
    *,
    latency: Mapping[str, Sequence[Latency]] | None = None,
    metrics: Mapping[str, Mapping[str, float]] | None = None,
) -> None:
    """Add what was measured on a finished bundle (a folder) to its manifest; the files stay as they are.

    Args:
        folder: the bundle.
        latency: variant id -> one entry per thread count; replaces what was there. Unverified variants have none.
        metrics: variant id -> figures, merged into those that are there.

    Raises:
        BadInputError: an id that the bundle does not have, or latency of a variant that did not pass.
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
    write_atomic(root / "manifest.json", encode(msgspec.structs.replace(manifest, stages=stages)), force=True)


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


def _selected(candidates: Sequence[Candidate], default: str, allow_unverified: Sequence[str]) -> list[Candidate]:
    """Those that may be shipped, in order."""
    ids = [candidate.id for candidate in candidates]
    for id in ids:
        if ids.count(id) > 1:
            raise BadInputError(f"variant {id!r} is given {ids.count(id)} times", expected="once")
    for id in (default, *allow_unverified):
        if id not in ids:
            raise BadInputError(f"no candidate is called {id!r}", choices=ids)
    shipped = []
    for candidate in candidates:
        if candidate.status == "passed" or (candidate.status == "unverified" and candidate.id in allow_unverified):
            shipped.append(candidate)
        else:
            log.warning("left out: %s, %s: %s", candidate.id, candidate.status, candidate.reason)
    chosen = candidates[ids.index(default)]
    if chosen.status != "passed":
        raise GateFailedError(
            f"the default variant {default!r} is {chosen.status}: {chosen.reason}",
            choices=[candidate.id for candidate in candidates if candidate.status == "passed"],
            next="Choose a default that passed, or mend this one",
        )
    return shipped


def _shipped(candidate: Candidate, folder: Path, name: str) -> Variant:
    """Copy a candidate's files into the bundle and describe them."""
    exported = candidate.exported
    target = folder / "models" / f"{name}.{exported.precision}{exported.path.suffix}"
    target.parent.mkdir(exist_ok=True)
    try:
        if exported.path.is_dir():
            shutil.copytree(exported.path, target)
        else:
            shutil.copyfile(exported.path, target)
    except OSError as error:
        raise os_problem(error, exported.path, "copy") from error
    return describe(candidate, target, folder)


def describe(candidate: Candidate, path: Path, root: Path) -> Variant:
    """The manifest's entry of a candidate whose file (or folder) is at ``path``, below ``root``.

    A comparison that gave no usable outputs leaves ``parity`` out; the status and the reason say so.
    """
    exported, parity = candidate.exported, candidate.parity
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    return Variant(
        id=candidate.id,
        format=exported.format,
        precision=exported.precision,
        files=tuple(
            FileEntry(path=file.relative_to(root).as_posix(), bytes=file.stat().st_size, sha256=sha256(file))
            for file in files
            if file.is_file()
        ),
        inputs=dict(exported.inputs),
        outputs=dict(exported.outputs),
        tolerances=candidate.bounds,
        status=candidate.status,
        reason=candidate.reason,
        parity=None if parity is None or parity.broken or not parity.faces else parity.to_manifest(),
        metrics=dict(candidate.metrics),
        latency=candidate.latency,
        quantization=dict(exported.quantization),
        unused=exported.unused,
    )


def _entry(folder: Path, path: str, data: bytes) -> FileEntry:
    """Write a file of the bundle and give its manifest entry."""
    target = folder / path
    target.parent.mkdir(exist_ok=True)
    target.write_bytes(data)
    return FileEntry(path=path, bytes=len(data), sha256=sha256(target))
