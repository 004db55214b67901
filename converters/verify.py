"""Does a bundle still do what was trained? Everything that can be checked here is; needs no torch.

hashes, contract --open_bundle--> each variant: tensors of the file against its bindings, its contents against its
precision --> golden cases, step by step, against torch's recorded outputs (of a packed bundle: the reference file's)
--> with data: accuracy on annotated faces, of landmark networks and of whole chains, or on labelled pictures, of masks

Golden cases: errors of raw outputs stay within the variant's tolerances. A quantized variant has bounds on its score
and head pose, none on its main output: its mean landmark distance to torch (of boxes, of their corners; of pictures,
the difference of their pixels; of masks, that of their probabilities) must come out as recorded when the bundle was
built, up to 10 % and two ten-thousandths of the crop's side or of full scale, which leaves room for another processor's
rounding.

Task: torch is not here, so the reference is the fp32 variant that just reproduced torch's golden outputs (of a packed
bundle: the file that was its reference from the start). Bounds on tensors are widened by the reference's own bound for
that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from pocketface.benchmarks.data.face import Face
from pocketface.benchmarks.data.labelled import Labelled
from pocketface.converters.audit import Audit, audit
from pocketface.converters.executors import executor_of
from pocketface.converters.golden import golden_problems
from pocketface.converters.kinds import Array, kind_of, main_output
from pocketface.converters.mask_reference import labelled_references
from pocketface.converters.parity import Pixels, References, Run, compare
from pocketface.converters.readers.registry import READERS
from pocketface.converters.reference import annotated_references, check_marks, comparable, golden_references
from pocketface.converters.signature import check_signature, read_signature
from pocketface.converters.verdict import ParityResult, bound_of, judge
from pocketface.converters.verify_chain import chains_of, check_chains
from pocketface.converters.verify_report import Status, VariantCheck, VerifyReport
from pocketface.sdk.bundle import Bundle
from pocketface.sdk.chain import StageRunner
from pocketface.sdk.errors import BadInputError, MissingExtraError, PocketfaceError
from pocketface.sdk.manifest import Manifest, Stage, Tolerances, Variant

GOLDEN_RATIO, GOLDEN_SLACK = 1.1, 2e-4
"""A recorded golden error may come out this much larger, and by this much of the crop's side or of full scale."""

JUDGED = ("landmarks", "segmentation")
"""Tasks whose accuracy is compared on annotated faces or labelled pictures."""

NO_RECORD = "no golden error was recorded when it was built, so only annotated faces (--data) can tell"


@dataclass
class _Running:
    """A variant while it is being checked."""

    variant: Variant
    stage: Stage
    source: str
    """What the golden cases come from."""
    runner: StageRunner | None = None
    golden: ParityResult | None = None
    golden_bound: float | None = None
    task: ParityResult | None = None
    audit: Audit | None = None
    notes: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)

    def result(self) -> VariantCheck:
        status: Status = "failed" if self.failed else "unchecked" if self.unchecked else "passed"
        return VariantCheck(
            id=self.variant.id,
            status=status,
            reasons=(*self.failed, *self.unchecked),
            executor="" if self.runner is None else self.runner.backend.executor,
            golden=self.golden,
            golden_bound=self.golden_bound,
            task=self.task,
            audit=self.audit,
            notes=tuple(self.notes),
        )


def verify_bundle(
    bundle: Bundle,
    *,
    variants: Sequence[str] = (),
    faces: Sequence[Face] | Sequence[Labelled] = (),
    progress: Callable[[int], None] | None = None,
) -> VerifyReport:
    """Check an opened bundle (opening it has checked hashes and contract).

    Args:
        bundle: the bundle.
        variants: ids to check (default: all); of a chain, ``PRECISION.FORMAT`` is that variant of every stage.
        faces: annotated faces for the comparison of accuracy; for masks, labelled pictures.
        progress: called with the steps done so far, ``work`` in all.

    Returns:
        What was found; nothing is raised for a variant that fails.

    Raises:
        BundleError: no such variant, or a golden case is broken.
        BadInputError: the image of a face cannot be read, it has another number of landmarks than the bundle, or faces
            are given for masks, labelled pictures for landmarks.
    """
    manifest = bundle.manifest
    ids = chosen(manifest, variants)
    marked, labelled = _split(faces, manifest)
    cases = bundle.golden()
    running: list[_Running] = []
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done)

    problems = golden_problems(cases, manifest.stages)
    golden = {stage.name: golden_references(cases, stage, number) for number, stage in enumerate(manifest.stages)}
    source = manifest.provenance.reference
    for id in ids:
        stage, variant = manifest.variant(id)
        item = _Running(variant, stage, manifest.provenance.reference_text)
        running.append(item)
        _check_file(bundle, item)
        if item.runner is not None:
            _check_golden(item, golden[stage.name])
        step()
    aligning = [item for item in running if item.stage.task in JUDGED]
    able = [item for item in aligning if item.variant.id == source] if source else _fp32_first(aligning, manifest)
    reference = next((item for item in able if _reproduces(item)), None)
    if faces and aligning:
        annotated = _annotated(marked, labelled, reference)
        step()
        for item in aligning:
            if item.runner is not None and reference is not None and annotated is not None:
                _check_task(item, reference, annotated)
            elif item.runner is not None:
                item.failed.append(
                    f"variant {source} does not reproduce its golden outputs, so accuracy has no reference"
                    if source
                    else "no fp32 variant reproduces torch's golden outputs, so accuracy has no reference"
                )
            step()
    checks = {item.variant.id: item.result() for item in running}
    return VerifyReport(
        bundle=manifest.name,
        variants=tuple(checks.values()),
        problems=tuple(problems),
        reference=reference.variant.id if faces and reference is not None else "",
        faces=len(faces),
        source=manifest.provenance.reference_text,
        chains=check_chains(bundle, chains_of(manifest, ids), checks, marked, step) if marked else (),
    )


def chosen(manifest: Manifest, variants: Sequence[str] = ()) -> list[str]:
    """Ids of the variants that are meant.

    Args:
        manifest: of the bundle.
        variants: ids; of a chain, a chain's id means its variant of every stage. None at all means all.

    Raises:
        BundleError: there is none of that name.
    """
    every = [variant.id for stage in manifest.stages for variant in stage.variants]
    found: list[str] = []
    for id in variants:
        found += [id] if id in every else [variant.id for _, variant in manifest.chain(id)]
    return list(dict.fromkeys(found)) or every


def work(manifest: Manifest, variants: Sequence[str] = (), *, faces: bool) -> int:
    """How many steps ``verify_bundle`` takes: one a variant; with faces, one more a landmark variant, one for what they
    are compared with, and one a chain.
    """
    ids = chosen(manifest, variants)
    aligning = [id for id in ids if manifest.variant(id)[0].task in JUDGED]
    return len(ids) + (faces and len(aligning) + bool(aligning) + len(chains_of(manifest, ids)))


def _check_file(bundle: Bundle, item: _Running) -> None:
    """Status, tensors at the border, and whether the runtime takes the file."""
    variant = item.variant
    if variant.status == "failed":
        item.failed.append(f"it is shipped although it failed when it was built: {variant.reason}")
    if variant.status == "unverified" and variant.id not in bundle.manifest.allow_unverified:
        item.failed.append("it is shipped unverified without being listed in allow_unverified")
    path = bundle.variant_path(variant)
    executor = executor_of(variant.format)
    if executor is None:
        item.unchecked.append(f"nothing here can run {variant.format}")
    try:
        found = read_signature(variant.format, path)
        item.failed += check_signature(found, variant.inputs, variant.outputs, variant.unused)
        _audit(item, path)
        if executor is not None:
            item.runner = StageRunner(bundle, variant.id, executor=executor)
    except MissingExtraError as error:
        if executor is not None:
            item.failed.append(error.what)
    except PocketfaceError as error:
        # A format of a later version, which nothing here knows, stays unchecked.
        (item.failed if executor is not None or variant.format in READERS else item.unchecked).append(error.what)


def _audit(item: _Running, path: Path) -> None:
    """Whether the file holds what its precision promises."""
    try:
        item.audit = audit(path, item.variant.format, item.variant.precision)
    except MissingExtraError as error:
        item.notes.append(f"its contents were not audited: {error.what}")
    else:
        item.failed += item.audit.problems


def _check_golden(item: _Running, golden: References) -> None:
    bounds, recorded = item.variant.tolerances, item.variant.parity
    found = _compared(item, golden=golden, tolerances=bounds)
    if found is None:
        return
    item.golden = found
    # The NME is for annotated faces; here it is neither measured nor bounded.
    tensor_bounds = msgspec.structs.replace(bounds, max_nme_increase=None)
    if bounds.max_tensor_error is not None or found.broken:
        item.failed += _reasons(found, tensor_bounds, "golden cases: ")
        return
    for name, output in found.outputs.items():
        kind = kind_of(found.kinds[name])
        bound = bound_of(kind, bounds)
        if bound is not None and not output.max_error <= bound:
            item.failed.append(f"golden cases: max error of {name} {output.max_error:.4g} > {bound:g} {kind.unit}")
    if recorded is None or recorded.golden_error is None:
        item.unchecked.append(NO_RECORD)
        return
    item.golden_bound = GOLDEN_RATIO * recorded.golden_error + GOLDEN_SLACK
    error = found.golden_error if found.golden_error is not None else float("nan")
    if not error <= item.golden_bound:
        _, main = main_output(found.kinds)
        item.failed.append(
            f"golden cases: mean {main.distance_name} to {item.source.removesuffix(' fp32')} {error:.4g} > "
            f"{item.golden_bound:.4g} {main.unit} (recorded {recorded.golden_error:.4g})"
        )


def _reproduces(item: _Running) -> bool:
    return item.golden is not None and not item.failed and not item.unchecked


def _fp32_first(running: list[_Running], manifest: Manifest) -> list[_Running]:
    """fp32 variants, the bundle's own choice before the others."""
    default = {variant.id for _, variant in manifest.chain()}
    fp32 = [item for item in running if item.variant.precision == "fp32"]
    return sorted(fp32, key=lambda item: item.variant.id not in default)


def _split(given: Sequence[Face] | Sequence[Labelled], manifest: Manifest) -> tuple[list[Face], list[Labelled]]:
    """Annotated faces and labelled pictures, whichever fit the bundle.

    Raises:
        BadInputError: see ``verify_bundle``.
    """
    faces = [item for item in given if isinstance(item, Face)]
    pictures = [item for item in given if isinstance(item, Labelled)]
    task = manifest.stages[-1].task
    if task == "segmentation" and faces:
        raise BadInputError(f"{faces[0].name}: a face with landmarks, for masks", expected="labelled pictures")
    if task != "segmentation" and pictures:
        raise BadInputError(f"{pictures[0].name}: a labelled picture, for landmarks", expected="annotated faces")
    if faces:
        check_marks(faces, manifest.landmarks.marks)
    return faces, pictures


def _annotated(faces: Sequence[Face], pictures: Sequence[Labelled], reference: _Running | None) -> References | None:
    """Annotated faces or labelled pictures as the reference variant sees them."""
    if reference is None or reference.runner is None:
        return None
    run = _run(reference.runner)
    if pictures:
        return labelled_references(run, pictures, reference.stage)
    return annotated_references(run, faces, reference.stage)


def _run(runner: StageRunner) -> Run:
    def run(tensor: Array | Pixels, others: Mapping[str, Array] | None = None) -> Mapping[str, Array]:
        return comparable(runner.predict_tensor(tensor, dict(others or {})), runner.stage)

    return run


def _check_task(item: _Running, reference: _Running, annotated: References) -> None:
    bounds, own = item.variant.tolerances, reference.variant.tolerances.max_tensor_error or 0.0
    widened = msgspec.structs.replace(
        bounds,
        max_tensor_error=None if bounds.max_tensor_error is None else bounds.max_tensor_error + own,
        max_score_error=None if bounds.max_score_error is None else bounds.max_score_error + own,
        max_pose_error=None if bounds.max_pose_error is None else bounds.max_pose_error + own,
    )
    found = _compared(item, faces=annotated, tolerances=widened)
    if found is not None:
        item.task = found
        item.failed += _reasons(found, widened, "annotated faces: ")
        if NO_RECORD in item.unchecked and widened.max_nme_increase is not None:
            item.unchecked.remove(NO_RECORD)  # its bound is on the NME, which was measured now


def _reasons(found: ParityResult, bounds: Tolerances, where: str) -> list[str]:
    verdict = judge(found, bounds)
    return [] if verdict.status == "passed" else [where + verdict.reason]


def _compared(
    item: _Running, *, tolerances: Tolerances, golden: References | None = None, faces: References | None = None
) -> ParityResult | None:
    """``compare``; a runtime that fails on the way is the variant's failure."""
    runner, scheme = item.runner, item.stage.scheme
    if runner is None:
        return None
    try:
        return compare(
            _run(runner),
            variant=item.variant.id,
            executor=runner.backend.executor,
            golden=golden,
            faces=faces,
            # Only landmarks are normalised by two of themselves.
            normaliser=(0, 0) if scheme is None else scheme.normaliser,
            tolerances=tolerances,
        )
    except PocketfaceError as error:
        item.failed.append(error.what)
        return None
