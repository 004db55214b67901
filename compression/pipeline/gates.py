"""The recipe's bounds against what was measured: parity, contents, size and latency of each variant, the student's own
accuracy."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from pocketface.benchmarks.reports.data import Gate
from pocketface.benchmarks.reports.sections import Section
from pocketface.benchmarks.reports.text import error
from pocketface.compression.recipe import GateSpec
from pocketface.converters.bundle import Candidate
from pocketface.converters.verdict import judge
from pocketface.sdk.errors import ConfigError


def check(spec: GateSpec, candidates: Sequence[Candidate], lineage: Mapping[str, float]) -> list[Gate]:
    """Every gate of a recipe. A variant that nothing here can run passes only if the recipe lists it.

    Args:
        spec: the bounds.
        candidates: every variant.
        lineage: name -> NME in torch on the test faces, percent, of the student and whatever was made of it, in order;
            the last one is what ships.
    """
    *_, shipped = lineage.values()
    own = [bounded("NME on the test faces", "student", shipped, spec.max_nme)] if spec.max_nme else []
    bounds = {"pruned": ("pruning", spec.max_pruned_increase), "qat": ("training for 8 bits", spec.max_qat_increase)}
    for (_, before), (name, after) in itertools.pairwise(lineage.items()):
        cause, bound = bounds[name]
        if bound:
            own.append(bounded(f"NME increase by {cause}", "student", after - before, bound))
    return own + check_variants(spec, candidates)


def check_allowed(spec: GateSpec, formats: Mapping[str, Sequence[str]]) -> None:
    """Refuse a name in ``allow_unverified`` that no variant of the recipe has.

    Raises:
        ConfigError: naming it.
    """
    known = [f"{precision}.{format}" for format, precisions in formats.items() for precision in precisions]
    for name in spec.allow_unverified:
        if ".".join(name.split(".")[-2:]) not in known:
            raise ConfigError(f"gates.allow_unverified: {name!r}", choices=known, next="Name one of these")


def check_variants(spec: GateSpec, candidates: Sequence[Candidate]) -> list[Gate]:
    """Parity, contents, size and latency of each variant."""
    found = []
    for candidate in candidates:
        found.append(_parity(spec, candidate))
        if candidate.problems:
            note = "; ".join(candidate.problems)
            found.append(Gate(gate="audit", variant=candidate.id, figure=None, bound=None, passed=False, note=note))
        size = spec.max_size_mb.get(candidate.id, spec.max_size_mb.get(candidate.exported.precision))
        if size is not None:
            found.append(bounded("size in MB", candidate.id, candidate.exported.total_bytes / 1e6, size))
        bound = spec.max_latency_ratio.get(candidate.exported.precision)
        if bound is not None and candidate.latency:
            worst = max(latency.ratio for latency in candidate.latency)
            found.append(bounded("latency ratio", candidate.id, worst, bound))
    return found


def _parity(spec: GateSpec, candidate: Candidate) -> Gate:
    parity, bounds = candidate.parity, candidate.bounds
    figure: float | None
    bound = bounds.max_tensor_error if bounds.max_nme_increase is None else bounds.max_nme_increase
    if parity is None:
        allowed = candidate.id in spec.allow_unverified
        note = candidate.reason + ("; the recipe allows it" if allowed else "; not in gates.allow_unverified")
        return Gate(
            gate="parity", variant=candidate.id, figure=None, bound=None, passed=None if allowed else False, note=note
        )
    if bounds.max_nme_increase is not None:
        name, figure = f"{parity.task} increase", parity.nme_increase
    else:
        name, figure = "tensor error", parity.main.max_error
    verdict = judge(parity, bounds)
    passed = verdict.status == "passed"
    return Gate(gate=name, variant=candidate.id, figure=figure, bound=bound, passed=passed, note=verdict.reason)


def gate_sections(gates: Sequence[Gate]) -> list[Section]:
    """The gates as a section of a report; none without gates."""
    rows = [
        {"variant": gate.variant, "gate": gate.gate, "figure": error(gate.figure), "bound": error(gate.bound)}
        | {"held": {True: "yes", False: "no", None: "not checked"}[gate.passed], "": gate.note}
        for gate in gates
    ]
    return [Section("Gates", "", rows)] if rows else []


def held(gates: Sequence[Gate]) -> str:
    """How many were, in words."""
    return f"{sum(gate.passed is True for gate in gates)} of {len(gates)} gates passed."


def failures(gates: Sequence[Gate]) -> str:
    """Those that were not, in words; empty if all were."""
    return "; ".join(
        f"{gate.variant}: {gate.gate}: {gate.note or f'{gate.figure:.4g} > {gate.bound:g}'}"
        for gate in gates
        if gate.passed is False
    )


def bounded(name: str, variant: str, figure: float, bound: float) -> Gate:
    """A figure against its bound; NaN fails."""
    return Gate(gate=name, variant=variant, figure=figure, bound=bound, passed=bool(figure <= bound))
