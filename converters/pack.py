"""A bundle of files that were not trained here.

files, contract --bind--> tensors --the first file, on drawn faces--> golden cases --> every file: audit, parity -->
bundle

One file, the reference, plays the part that torch fp32 has for our own networks: golden cases are what it gives, and
the others are compared with it. The manifest says so. Whether the reference itself is any good, nothing here can tell.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from pocketface.benchmarks.data.face import Face
from pocketface.converters.audit import audit
from pocketface.converters.bundle import Candidate, write_bundle
from pocketface.converters.executors import executor_of
from pocketface.converters.golden_images import golden_images
from pocketface.converters.mil_reference.reference import UnknownOperationError
from pocketface.converters.pack_contract import Loaded
from pocketface.converters.pack_files import Bound, bind
from pocketface.converters.parity import Array, Pixels, References, Run, backend_of, compare
from pocketface.converters.reference import annotated_references, comparable, golden_case, golden_references
from pocketface.converters.verdict import GATES, ParityResult
from pocketface.sdk.backends.base import Backend
from pocketface.sdk.errors import BadInputError, BundleError, ConfigError, EnvironmentProblemError, GateFailedError
from pocketface.sdk.files import refuse_existing
from pocketface.sdk.manifest import DataSource, Provenance, Stage, Tolerances
from pocketface.sdk.postprocess import in_contract_shape

SELF = Tolerances(max_tensor_error=2e-3, max_score_error=0.02)
"""Bounds of a reference that is no float file: it is compared with itself, later on other processors too."""

FAR, STILL, OFF_CENTRE = 2.0, 2.0, 0.3
"""Landmarks of drawn faces that reach this far from the crop's centre (in crop sides), spread over fewer than this many
pixels, or have their mean this far from the centre, are probably in other units than the contract says."""

TOOLS = ("pocketface", "numpy", "onnxruntime", "ai-edge-litert", "coremltools", "executorch")


@dataclass(frozen=True)
class Packed:
    """What ``pack_files`` found out.

    Attributes:
        bundle: the folder, or None where nothing was written.
        name: of the bundle.
        reference: id of the variant that the others were compared with.
        candidates: one a file, in the order given.
        notes: what was found that the contract does not say, and what looks odd.
        failures: why nothing was written; empty if a bundle was.
    """

    bundle: Path | None
    name: str
    reference: str
    candidates: tuple[Candidate, ...]
    notes: tuple[str, ...]
    failures: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; files are named, not located."""
        return {
            "bundle": self.name,
            "written": self.bundle is not None,
            "reference": self.reference,
            "notes": list(self.notes),
            "failures": list(self.failures),
            "variants": [
                {
                    "id": item.id,
                    "file": item.exported.path.name,
                    "bytes": item.exported.total_bytes,
                    "status": item.status,
                    "reason": item.reason,
                    "parity": None if item.parity is None else item.parity.to_dict(),
                }
                for item in self.candidates
            ],
        }


def pack_files(
    files: Sequence[Path],
    loaded: Loaded,
    out: Path,
    *,
    faces: Sequence[Face] = (),
    allow_unverified: bool = False,
    say: Callable[[str], None] = lambda text: None,
    force: bool = False,
) -> Packed:
    """Make a bundle of model files.

    Args:
        files: ``.onnx``, ``.tflite``, ``.pte``; ``.mlpackage`` folders.
        loaded: their contract.
        out: the bundle's folder.
        faces: annotated faces, for bounds on the NME.
        allow_unverified: ship files that nothing here can run.
        say: told before each file.
        force: replace a bundle that is there.

    Returns:
        What was found. Unless every file passed (or is allowed unverified), nothing is written and ``failures`` says
        why.

    Raises:
        BadInputError: a file that cannot be used, or a folder that exists.
        ConfigError: the contract does not fit the files.
        EnvironmentProblemError: nothing here can run the reference.
    """
    refuse_existing(out, force)
    stage = loaded.stage()
    bound = _bound(files, loaded, stage)
    reference = _reference(bound, loaded)
    bounds = {item.id: _bounds(item, loaded, item is reference, bool(faces)) for item in bound}
    say(f"reference: {reference.source.name}")
    with _named(reference):
        backend = backend_of(reference.exported)
        cases = [
            golden_case(lambda tensor: _raw(backend, tensor, stage), image, box, stage)
            for image, box in golden_images(loaded.contract.golden_faces)
        ]
    golden = golden_references(cases, stage)
    notes = [note for item in bound for note in item.notes] + _suspicions(golden, reference, stage)
    better = [item.source.name for item in bound if item.exported.precision == "fp32"]
    if better and reference.exported.precision != "fp32":
        notes.append(f"the reference is {reference.id}; {better[0]} is fp32: name it as reference in the contract")
    annotated = annotated_references(_run(backend, stage), faces, stage) if faces else None
    candidates, audits = [], {}
    for item in bound:
        say(f"{item.source.name}: {item.id}")
        audits[item.id] = audit(item.exported, item.exported.format, item.exported.precision)
        with _named(item):
            try:
                parity = _parity(item, golden, annotated, stage, bounds[item.id])
            except UnknownOperationError as error:  # of a reference executor: no fault of the file
                parity = None
                notes.append(f"{item.source.name} could not be run here: {error.what}")
        candidates.append(Candidate(item.exported, parity, bounds[item.id], problems=audits[item.id].problems))
    failures = _failures(candidates, allow_unverified)
    if failures:
        return Packed(None, loaded.contract.name, reference.id, tuple(candidates), tuple(notes), tuple(failures))
    stage = msgspec.structs.replace(stage, parameters=sum(audits[reference.id].weights.values()))
    write_bundle(
        out,
        name=loaded.contract.name,
        stage=stage,
        candidates=candidates,
        default=reference.id,
        golden=cases,
        card=card(loaded, reference, candidates, backend.executor),
        provenance=_provenance(loaded, reference),
        weights_licence=loaded.contract.weights_licence,
        allow_unverified=[item.id for item in candidates if item.status == "unverified"],
        force=force,
    )
    return Packed(out, loaded.contract.name, reference.id, tuple(candidates), tuple(notes), ())


def _bound(files: Sequence[Path], loaded: Loaded, stage: Stage) -> list[Bound]:
    """Every file with its tensors; names and ids that do not go together are refused."""
    names = [path.name for path in files]
    if not files:
        raise BadInputError("no model files", expected="at least one")
    for name in names:
        if names.count(name) > 1:
            raise BadInputError(
                f"{name} is given {names.count(name)} times", expected="once", next="Rename one of them"
            )
    for key, listed in (("files", loaded.contract.files), ("reference", filter(None, [loaded.contract.reference]))):
        for name in listed:
            if name not in names:
                raise ConfigError(f"{key}: {name!r} is not among the files given", choices=names)
    bound = [bind(path, loaded, stage) for path in files]
    for item in bound:
        same = [other.source.name for other in bound if other.id == item.id]
        if len(same) > 1:
            raise ConfigError(
                f"{' and '.join(same)} are both {item.id}",
                expected="one file of a format and precision",
                next="Correct their precision under files, or leave one out",
            )
    return bound


def _reference(bound: Sequence[Bound], loaded: Loaded) -> Bound:
    wanted = loaded.contract.reference
    chosen = next((item for item in bound if item.source.name == wanted), bound[0])
    if executor_of(chosen.exported.format) is None:
        able = [item.source.name for item in bound if executor_of(item.exported.format) is not None]
        raise EnvironmentProblemError(
            f"nothing here can run {chosen.source.name}, the reference",
            choices=able,
            next="Name one of these as reference in the contract" if able else "See pocketface doctor",
        )
    return chosen


def _bounds(item: Bound, loaded: Loaded, is_reference: bool, has_faces: bool) -> Tolerances:
    """A file's bounds, each of which can be measured.

    Raises:
        ConfigError: its landmarks are bounded by their NME alone, and there are no annotated faces.
    """
    precision = item.exported.precision
    bounds = loaded.tolerances(precision)
    if is_reference and GATES.get(precision, Tolerances()).max_tensor_error is None:
        given = {name: getattr(bounds, name) for name in bounds.__struct_fields__}
        own = {name: value for name, value in given.items() if name != "max_nme_increase" and value is not None}
        return msgspec.structs.replace(SELF, **own)
    if has_faces or (bounds.max_nme_increase is None and bounds.max_tensor_error is not None):
        return bounds
    if bounds.max_tensor_error is not None and bounds.max_nme_increase == GATES[precision].max_nme_increase:
        return msgspec.structs.replace(bounds, max_nme_increase=None)  # the contract has a bound of its own
    raise ConfigError(
        f"{item.source.name}: {precision} has no bound on its landmarks that can be measured without annotated faces",
        next=f"Give --data, or write tolerances: {{{precision}: {{max_tensor_error: 0.02}}}} (in crop sides)",
    )


def _raw(backend: Backend, tensor: Array | Pixels, stage: Stage) -> Mapping[str, Array]:
    return in_contract_shape(backend.run({stage.inputs[0].name: tensor}), stage)


def _run(backend: Backend, stage: Stage) -> Run:
    return lambda tensor: comparable(_raw(backend, tensor, stage), stage)


def _parity(
    item: Bound, golden: References, annotated: References | None, stage: Stage, bounds: Tolerances
) -> ParityResult | None:
    """A file against the reference; None where nothing here can run its format."""
    if executor_of(item.exported.format) is None:
        return None
    backend = backend_of(item.exported)
    return compare(
        _run(backend, stage),
        variant=item.id,
        executor=backend.executor,
        golden=golden,
        faces=annotated,
        tolerances=bounds,
        normaliser=stage.marks.normaliser,
    )


@contextlib.contextmanager
def _named(item: Bound) -> Iterator[None]:
    """What a runtime says of a file in a bundle, said of a file that is to go into one."""
    try:
        yield
    except UnknownOperationError:
        raise
    except BundleError as error:
        name = item.source.name
        what = error.what if name in error.what else f"{name}: {error.what}"
        raise BadInputError(what, expected=error.expected, next="Make the file again, or leave it out") from error


def _failures(candidates: Sequence[Candidate], allow_unverified: bool) -> list[str]:
    return [
        f"{item.exported.path.name} ({item.id}) {item.status}: {item.reason}"
        for item in candidates
        if item.status == "failed" or (item.status == "unverified" and not allow_unverified)
    ]


def refuse_failed(packed: Packed) -> None:
    """Raise what kept a bundle from being written.

    Raises:
        GateFailedError: it was not.
    """
    if not packed.failures:
        return
    only_unverified = all(item.status != "failed" for item in packed.candidates)
    raise GateFailedError(
        f"nothing was written: {'; '.join(packed.failures)}",
        next="Pack where these can be run, or ship them unverified with --allow-unverified"
        if only_unverified
        else "Leave these files out, make them again, or set the bounds that you can live with in the contract",
    )


def _suspicions(golden: References, reference: Bound, stage: Stage) -> list[str]:
    """What the reference gives on drawn faces, in the contract's units: do they look like landmarks of a face?

    Raises:
        ConfigError: they cannot be.
    """
    decode, points = stage.outputs[0].decode, golden.main
    reach, spread = float(np.abs(points).max()), float(np.ptp(points, axis=1).max()) * stage.preprocess.size
    if reach > FAR or spread < STILL:
        why = f"reach {reach:.3g} crop sides from the centre" if reach > FAR else f"lie within {spread:.2g} pixels"
        raise ConfigError(
            f"{reference.source.name}: on drawn faces its landmarks, taken as {decode}, {why}",
            expected="landmarks of a face that fills the crop",
            next="Correct outputs.points.decode, or mean and std of the preprocessing",
        )
    centre = points.mean(axis=(0, 1))
    if float(np.abs(centre).max()) > OFF_CENTRE:
        at = ", ".join(f"{value:.2f}" for value in centre)
        return [
            f"on drawn faces the mean landmark lies at ({at}) of the crop, (0, 0) being its centre: is {decode} right?"
        ]
    return []


def _provenance(loaded: Loaded, reference: Bound) -> Provenance:
    """The contract takes the recipe's place; what others trained on has a name and terms, but no hash."""
    return Provenance(
        recipe=loaded.text,
        recipe_sha256=loaded.sha256,
        data=tuple(
            DataSource(name=item.name, split="train", faces=0, sha256="", licence=item.licence)
            for item in loaded.contract.data
        ),
        tools=_tools(),
        reference=reference.id,
    )


def _tools() -> dict[str, str]:
    found = {}
    for name in TOOLS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def card(loaded: Loaded, reference: Bound, candidates: Sequence[Candidate], executor: str) -> str:
    """The model card, as Markdown."""
    contract, scheme, size = loaded.contract, loaded.scheme, loaded.contract.preprocess.size
    score = " and a face score" if contract.outputs.score is not None else ""
    data = "; ".join(f"{item.name} ({item.licence})" for item in contract.data) or "not known"
    variants = "\n".join(f"| {item.id} | `{item.exported.path.name}` | {_compared(item)} |" for item in candidates)
    return f"""# {contract.name}

{scheme.points} facial landmarks ({scheme.name}){score} from one square crop of {size} x {size} pixels.
{contract.description.strip() and chr(10) + contract.description.strip() + chr(10)}
This network was not trained with pocketface. Its files were packed as they were given.

| | |
|---|---|
| licence of the weights | {contract.weights_licence} |
| trained on, as its maker says | {data} |
| reference | {reference.id}, `{reference.source.name}`, run by {executor} |

| variant | file | compared with the reference on {contract.golden_faces} drawn faces |
|---|---|---|
{variants}

## Limits
- Golden cases are the reference's own outputs: they show that a file still gives what it gave when it was packed, and
that the files agree. They do not show that it is right: measure that with `pocketface eval`.
- It expects the box convention of the manifest: a square of 1.25 x the landmarks' bounding box. Other boxes cost
accuracy.
"""


def _compared(item: Candidate) -> str:
    if item.parity is None:
        return "not run"
    return f"max {item.parity.max_pixel_error:.2g} px, by {item.parity.executor}"
