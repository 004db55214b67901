"""An exported file with what is known about it, and which of several may be shipped."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import msgspec

from pocketface.converters.formats.base import Exported
from pocketface.converters.verdict import GATES, ParityResult, judge
from pocketface.sdk import chain_ids
from pocketface.sdk.errors import BadInputError, GateFailedError
from pocketface.sdk.files import os_problem, sha256
from pocketface.sdk.manifest import FileEntry, Latency, Stage, Tolerances, Variant

log = logging.getLogger(__name__)

Status = Literal["passed", "failed", "unverified"]


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
        """``PRECISION.FORMAT``, e.g. ``"w8a8.tflite"``; in a chain its variant is called ``STAGE.PRECISION.FORMAT``."""
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


@dataclass(frozen=True)
class StageFiles:
    """One stage of a bundle.

    Attributes:
        stage: everything but its variants, which are ignored.
        candidates: what could be shipped of it.
    """

    stage: Stage
    candidates: Sequence[Candidate]


@dataclass(frozen=True)
class Selection:
    """What of a bundle's candidates is shipped.

    Attributes:
        stages: variant id -> candidate, one mapping a stage, in order.
        allow_unverified: ids of variants that may be shipped without having been run.
    """

    stages: tuple[dict[str, Candidate], ...]
    allow_unverified: tuple[str, ...]


def select(parts: Sequence[StageFiles], default: str, allow_unverified: Iterable[str]) -> Selection:
    """Choose what may be shipped; what may not is logged.

    Args:
        parts: the stages, in the order in which they run.
        default: id of the variant, or PRECISION.FORMAT of the chain, that is loaded when none is named.
        allow_unverified: ids; in a chain, ``PRECISION.FORMAT`` means that of every stage.

    Raises:
        BadInputError: ids that repeat, names that no candidate has, or a default that is a mix.
        GateFailedError: the default did not pass, in a stage that the error names.
    """
    if len(parts) > 1 and chain_ids.is_mix(default):
        raise BadInputError(
            f"the default chain {default!r} names files of single stages",
            expected="PRECISION.FORMAT, that of every stage",
            next="Load a mix by its id: load(BUNDLE, variant=MIX)",
        )
    every = [_named(part, chain=len(parts) > 1) for part in parts]
    known = {id: candidate for stage in every for id, candidate in stage.items()}
    allowed = tuple(dict.fromkeys(id for given in allow_unverified for id in _ids(given, known)))
    chosen = _chain(default, every, parts)
    kept = []
    for stage in every:
        shipped = {}
        for id, candidate in stage.items():
            if candidate.status == "passed" or (candidate.status == "unverified" and id in allowed):
                shipped[id] = candidate
            else:
                log.warning("left out: %s, %s: %s", id, candidate.status, candidate.reason)
        kept.append(shipped)
    for id, candidates in zip(chosen, every, strict=True):
        if candidates[id].status != "passed":
            raise GateFailedError(
                f"the default variant {id!r} is {candidates[id].status}: {candidates[id].reason}",
                choices=[id for id, candidate in candidates.items() if candidate.status == "passed"],
                next="Choose a default that passed, or mend this one",
            )
    if len(parts) > 1:
        _log_chains(every, kept)
    return Selection(tuple(kept), allowed)


def _named(part: StageFiles, *, chain: bool) -> dict[str, Candidate]:
    found: dict[str, Candidate] = {}
    for candidate in part.candidates:
        id = _full(part.stage, candidate) if chain else candidate.id
        if id in found:
            times = sum(other.id == candidate.id for other in part.candidates)
            raise BadInputError(f"variant {id!r} is given {times} times", expected="once")
        found[id] = candidate
    return found


def _full(stage: Stage, candidate: Candidate) -> str:
    return chain_ids.variant_id(stage.name, candidate.exported.precision, candidate.exported.format)


def _ids(given: str, known: Mapping[str, Candidate]) -> list[str]:
    found = [given] if given in known else [id for id, candidate in known.items() if candidate.id == given]
    if not found:
        raise BadInputError(f"no candidate is called {given!r}", choices=known)
    return found


def _chain(default: str, every: Sequence[Mapping[str, Candidate]], parts: Sequence[StageFiles]) -> list[str]:
    """Ids of the variants, one a stage, that an id of a chain means; of one stage, the id itself."""
    if len(parts) == 1:
        return _ids(default, every[0])
    found = []
    for part, candidates in zip(parts, every, strict=True):
        name = part.stage.name
        wanted = f"{name}.{default}"
        if wanted not in candidates:
            raise BadInputError(
                f"the default chain {default!r} has no file in stage {name!r}",
                choices=[candidate.id for candidate in candidates.values()],
                next="Name a precision and format that every stage has",
            )
        found.append(wanted)
    return found


def _log_chains(every: Sequence[Mapping[str, Candidate]], kept: Sequence[Mapping[str, Candidate]]) -> None:
    """Say which chains cannot be run as a whole because one stage is missing."""
    for kind in dict.fromkeys(candidate.id for stage in kept for candidate in stage.values()):
        missing = [
            next((id for id, candidate in all_of.items() if candidate.id == kind), f"another stage's {kind}")
            for all_of, stage in zip(every, kept, strict=True)
            if not any(candidate.id == kind for candidate in stage.values())
        ]
        if missing:
            log.warning("no chain %s: without %s", kind, ", ".join(missing))


def ship(candidate: Candidate, folder: Path, name: str, id: str, stage: Stage) -> Variant:
    """Copy a candidate's files into a bundle that is being written, and describe them.

    Args:
        candidate: what to ship.
        folder: the bundle's root.
        name: what its file is called before ``.PRECISION.SUFFIX``.
        id: of the variant.
        stage: that it belongs to; a bound on a head pose that it does not give is left out.
    """
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
    variant = describe(candidate, target, folder, id=id)
    if any(spec.decode == "head_pose" for spec in stage.outputs):
        return variant
    # Releases of before it existed read what has no such bound.
    bounds = msgspec.structs.replace(variant.tolerances, max_pose_error=None)
    return msgspec.structs.replace(variant, tolerances=bounds)


def describe(candidate: Candidate, path: Path, root: Path, *, id: str = "") -> Variant:
    """The manifest's entry of a candidate whose file (or folder) is at ``path``, below ``root``.

    A comparison that gave no usable outputs leaves ``parity`` out; the status and the reason say so.

    Args:
        candidate: what is described.
        path, root: see above.
        id: of the variant; default: the candidate's own.
    """
    exported, parity = candidate.exported, candidate.parity
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    return Variant(
        id=id or candidate.id,
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
