"""Does a bundle still do what was trained? Everything that can be checked here is; needs no torch.

hashes, contract --open_bundle--> each variant: tensors of the file against its bindings, its contents against its
precision --> golden cases against torch's recorded outputs (of a packed bundle: the reference file's) --> with data:
accuracy on annotated faces

Golden cases: errors of raw outputs stay within the variant's tolerances. A quantized variant has no bound on tensors;
its mean landmark distance to torch must come out as recorded when the bundle was built, up to 10 % and two
ten-thousandths of the crop's side, which leaves room for another processor's rounding.

Task: torch is not here, so the reference is the fp32 variant that just reproduced torch's golden outputs (of a packed
bundle: the file that was its reference from the start). Bounds on tensors are widened by the reference's own bound for
that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec

from pocketface.benchmarks.data.face import Face
from pocketface.converters.audit import Audit, audit
from pocketface.converters.executors import executor_of
from pocketface.converters.golden import golden_problems
from pocketface.converters.parity import References, compare
from pocketface.converters.readers.registry import READERS
from pocketface.converters.reference import annotated_references, comparable, golden_references
from pocketface.converters.signature import check_signature, read_signature
from pocketface.converters.verdict import ParityResult, judge
from pocketface.sdk.bundle import Bundle
from pocketface.sdk.errors import MissingExtraError, PocketfaceError
from pocketface.sdk.manifest import Stage, Tolerances, Variant
from pocketface.sdk.predictor import Predictor

Status = Literal["passed", "failed", "unchecked"]

GOLDEN_RATIO, GOLDEN_SLACK = 1.1, 2e-4
"""A recorded golden error may come out this much larger, and by this much of the crop's side."""

NO_RECORD = "no golden error was recorded when it was built, so only annotated faces (--data) can tell"


@dataclass(frozen=True)
class VariantCheck:
    """What was found out about one variant.

    Attributes:
        id: of the variant.
        status: ``unchecked`` where nothing here can run it.
        reasons: why it did not pass: figure, bound and unit.
        executor: what ran it; empty if nothing did.
        golden, task: the comparisons; None where they were not made.
        audit: what its file holds; None where its reader is not installed, which ``notes`` say.
        notes: what was left out without being counted as unchecked.
    """

    id: str
    status: Status
    reasons: tuple[str, ...] = ()
    executor: str = ""
    golden: ParityResult | None = None
    golden_bound: float | None = None
    task: ParityResult | None = None
    audit: Audit | None = None
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "id": self.id,
            "status": self.status,
            "reasons": list(self.reasons),
            "executor": self.executor,
            "golden": None if self.golden is None else self.golden.to_dict(),
            "golden_bound": self.golden_bound,
            "task": None if self.task is None else self.task.to_dict(),
            "audit": None if self.audit is None else self.audit.to_dict(),
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class VerifyReport:
    """What was found out about a bundle.

    Attributes:
        bundle: its name.
        variants: one entry a variant that was asked for.
        problems: what is wrong with the bundle as a whole.
        reference: id of the variant that stood in for torch on annotated faces; empty if none was needed.
        faces: how many annotated faces were used.
        source: what the golden cases come from.
    """

    bundle: str
    variants: tuple[VariantCheck, ...]
    problems: tuple[str, ...] = ()
    reference: str = ""
    faces: int = 0
    source: str = "torch fp32"

    def failures(self, *, allow_unchecked: bool = False) -> list[str]:
        """Why the bundle does not pass, each naming its variant; empty if it passes.

        A report in which no variant was run never passes.
        """
        found = list(self.problems)
        for variant in self.variants:
            if variant.status == "failed" or (variant.status == "unchecked" and not allow_unchecked):
                found.append(f"{variant.id} {variant.status}: {'; '.join(variant.reasons)}")
        if not any(variant.status != "unchecked" for variant in self.variants):
            found.append("nothing was checked: no variant could be run here")
        return found

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "bundle": self.bundle,
            "passed": not self.failures(),
            "problems": list(self.problems),
            "reference": self.reference,
            "golden_source": self.source,
            "faces": self.faces,
            "variants": [variant.to_dict() for variant in self.variants],
        }


@dataclass
class _Running:
    """A variant while it is being checked."""

    variant: Variant
    source: str
    """What the golden cases come from."""
    predictor: Predictor | None = None
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
            executor="" if self.predictor is None else self.predictor.backend.executor,
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
    faces: Sequence[Face] = (),
    progress: Callable[[int], None] | None = None,
) -> VerifyReport:
    """Check an opened bundle (opening it has checked hashes and contract).

    Args:
        bundle: the bundle.
        variants: ids to check (default: all).
        faces: annotated faces for the comparison of accuracy.
        progress: called with the steps done so far: one a variant, and with faces one more a variant and one in all.

    Returns:
        What was found; nothing is raised for a variant that fails.

    Raises:
        BundleError: no such variant, or a golden case is broken.
        BadInputError: a face cannot be read, or has another number of landmarks than the bundle.
    """
    manifest = bundle.manifest
    ids = list(variants) or [variant.id for stage in manifest.stages for variant in stage.variants]
    cases = bundle.golden()
    problems: list[str] = []
    running: list[_Running] = []
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done)

    # One stage is what schema 1's readers run; a chain would need its golden cases step by step.
    stage = manifest.variant(ids[0])[0]
    problems += golden_problems(cases, stage)
    golden = golden_references(cases, stage)
    source = manifest.provenance.reference
    for id in ids:
        item = _Running(manifest.variant(id)[1], manifest.provenance.reference_text)
        running.append(item)
        _check_file(bundle, item)
        if item.predictor is not None:
            _check_golden(item, golden, stage)
        step()
    able = [item for item in running if item.variant.id == source] if source else _fp32_first(running, manifest.default)
    reference = next((item for item in able if _reproduces(item)), None)
    if faces:
        annotated = _annotated(faces, stage, reference)
        step()
        for item in running:
            if item.predictor is not None and reference is not None and annotated is not None:
                _check_task(item, reference, annotated, stage)
            elif item.predictor is not None:
                item.failed.append(
                    f"variant {source} does not reproduce its golden outputs, so accuracy has no reference"
                    if source
                    else "no fp32 variant reproduces torch's golden outputs, so accuracy has no reference"
                )
            step()
    return VerifyReport(
        bundle=manifest.name,
        variants=tuple(item.result() for item in running),
        problems=tuple(problems),
        reference=reference.variant.id if faces and reference is not None else "",
        faces=len(faces),
        source=manifest.provenance.reference_text,
    )


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
            item.predictor = Predictor(bundle, variant=variant.id, executor=executor)
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


def _check_golden(item: _Running, golden: References, stage: Stage) -> None:
    bounds, recorded = item.variant.tolerances, item.variant.parity
    found = _compared(item, stage, golden=golden, tolerances=bounds)
    if found is None:
        return
    item.golden = found
    # The NME is for annotated faces; here it is neither measured nor bounded.
    tensor_bounds = msgspec.structs.replace(bounds, max_nme_increase=None)
    if bounds.max_tensor_error is not None or found.broken:
        item.failed += _reasons(found, tensor_bounds, "golden cases: ")
        return
    score = found.outputs.get("score")
    if score is not None and bounds.max_score_error is not None and not score.max_error <= bounds.max_score_error:
        item.failed.append(
            f"golden cases: max error of score {score.max_error:.4g} > {bounds.max_score_error:g} probability"
        )
    if recorded is None or recorded.golden_error is None:
        item.unchecked.append(NO_RECORD)
        return
    item.golden_bound = GOLDEN_RATIO * recorded.golden_error + GOLDEN_SLACK
    error = found.golden_error if found.golden_error is not None else float("nan")
    if not error <= item.golden_bound:
        item.failed.append(
            f"golden cases: mean landmark distance to {item.source.removesuffix(' fp32')} {error:.4g} > "
            f"{item.golden_bound:.4g} crop sides "
            f"(recorded {recorded.golden_error:.4g})"
        )


def _reproduces(item: _Running) -> bool:
    return item.golden is not None and not item.failed and not item.unchecked


def _fp32_first(running: list[_Running], default: str) -> list[_Running]:
    """fp32 variants, the bundle's own choice before the others."""
    fp32 = [item for item in running if item.variant.precision == "fp32"]
    return sorted(fp32, key=lambda item: item.variant.id != default)


def _annotated(faces: Sequence[Face], stage: Stage, reference: _Running | None) -> References | None:
    """Annotated faces as the reference variant sees them."""
    if reference is None or reference.predictor is None:
        return None
    predictor = reference.predictor
    return annotated_references(lambda tensor: comparable(predictor.predict_tensor(tensor), stage), faces, stage)


def _check_task(item: _Running, reference: _Running, annotated: References, stage: Stage) -> None:
    bounds, own = item.variant.tolerances, reference.variant.tolerances.max_tensor_error or 0.0
    widened = msgspec.structs.replace(
        bounds,
        max_tensor_error=None if bounds.max_tensor_error is None else bounds.max_tensor_error + own,
        max_score_error=None if bounds.max_score_error is None else bounds.max_score_error + own,
    )
    found = _compared(item, stage, faces=annotated, tolerances=widened)
    if found is not None:
        item.task = found
        item.failed += _reasons(found, widened, "annotated faces: ")
        if NO_RECORD in item.unchecked and widened.max_nme_increase is not None:
            item.unchecked.remove(NO_RECORD)  # its bound is on the NME, which was measured now


def _reasons(found: ParityResult, bounds: Tolerances, where: str) -> list[str]:
    verdict = judge(found, bounds)
    return [] if verdict.status == "passed" else [where + verdict.reason]


def _compared(
    item: _Running,
    stage: Stage,
    *,
    tolerances: Tolerances,
    golden: References | None = None,
    faces: References | None = None,
) -> ParityResult | None:
    """``compare``; a runtime that fails on the way is the variant's failure."""
    predictor = item.predictor
    if predictor is None:
        return None
    try:
        return compare(
            lambda tensor: comparable(predictor.predict_tensor(tensor), stage),
            variant=item.variant.id,
            executor=predictor.backend.executor,
            golden=golden,
            faces=faces,
            normaliser=stage.scheme.normaliser,
            tolerances=tolerances,
        )
    except PocketfaceError as error:
        item.failed.append(error.what)
        return None
