"""What ``verify`` found out about a bundle, as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from pocketface.converters.audit import Audit
from pocketface.converters.verdict import ParityResult

Status = Literal["passed", "failed", "unchecked"]


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
class ChainCheck:
    """A whole chain on annotated faces, against the fp32 chain.

    Attributes:
        id: of the chain.
        status: ``unchecked`` where one of its files was not run.
        reasons: why it did not pass.
        nme, nme_reference: percent, of the chain and of the fp32 chain; None where they were not measured.
        bound: of the increase, percentage points.
    """

    id: str
    status: Status
    reasons: tuple[str, ...] = ()
    nme: float | None = None
    nme_reference: float | None = None
    bound: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "id": self.id,
            "status": self.status,
            "reasons": list(self.reasons),
            "nme": self.nme,
            "nme_reference": self.nme_reference,
            "bound": self.bound,
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
        chains: of a chain, with annotated faces: one entry for each that the variants make up.
    """

    bundle: str
    variants: tuple[VariantCheck, ...]
    problems: tuple[str, ...] = ()
    reference: str = ""
    faces: int = 0
    source: str = "torch fp32"
    chains: tuple[ChainCheck, ...] = ()

    def failures(self, *, allow_unchecked: bool = False) -> list[str]:
        """Why the bundle does not pass, each naming its variant or chain; empty if it passes.

        A report in which no variant was run never passes.
        """
        found = list(self.problems)
        every: tuple[VariantCheck | ChainCheck, ...] = (*self.variants, *self.chains)
        for check in every:
            if check.status == "failed" or (check.status == "unchecked" and not allow_unchecked):
                found.append(f"{check.id} {check.status}: {'; '.join(check.reasons)}")
        if not any(variant.status != "unchecked" for variant in self.variants):
            found.append("nothing was checked: no variant could be run here")
        return found

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        report: dict[str, Any] = {
            "bundle": self.bundle,
            "passed": not self.failures(),
            "problems": list(self.problems),
            "reference": self.reference,
            "golden_source": self.source,
            "faces": self.faces,
            "variants": [variant.to_dict() for variant in self.variants],
        }
        return {**report, "chains": [chain.to_dict() for chain in self.chains]} if self.chains else report
