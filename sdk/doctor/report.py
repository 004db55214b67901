"""Run the checks, and what came out of all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from pocketface.sdk.doctor.base import Check, Finding
from pocketface.sdk.doctor.isolated import examine, first_line
from pocketface.sdk.doctor.registry import CHECKS
from pocketface.sdk.doctor.versions import installed
from pocketface.sdk.errors import PocketfaceError, UnknownNameError


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """One check's findings: its name in the registry, its title, and what it found."""

    name: str
    title: str
    findings: tuple[Finding, ...]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What ``pocketface doctor`` found.

    Attributes:
        pocketface: its version; empty if it is not installed.
        healthy: nothing that is installed is broken.
        sections: one a check, in the order they are shown.
        left_out: checks that were not asked for.
    """

    pocketface: str
    healthy: bool
    sections: tuple[Section, ...]
    left_out: tuple[str, ...] = ()

    @property
    def problems(self) -> list[Finding]:
        """What is broken."""
        return [finding for section in self.sections for finding in section.findings if finding.level == "problem"]

    def without_chatter(self) -> Report:
        """The same without what the libraries printed."""
        replace = msgspec.structs.replace
        return replace(
            self,
            sections=tuple(
                replace(section, findings=tuple(replace(finding, chatter="") for finding in section.findings))
                for section in self.sections
            ),
        )


def run_checks(
    *, only: Sequence[str] = (), quick: bool = False, progress: Callable[[str], None] = lambda text: None
) -> Report:
    """Run the registered checks.

    Args:
        only: names of checks, or of single cases (``"onnx"``: whatever has a case of that name); empty for all.
        quick: leave out the slow ones.
        progress: told what begins.

    Raises:
        UnknownNameError: ``only`` holds a name that neither a check nor a case has.
    """
    checks, broken = _resolved()
    cases = {name: list(check.cases()) for name, check in checks.items()}
    known = {*checks, *broken, *(case for found in cases.values() for case in found if case)}
    for name in only:
        if name not in known:
            raise UnknownNameError("check or format", name, known, next="See pocketface doctor --help")
    sections, left_out = [], []
    for name, check in sorted(checks.items(), key=lambda item: (item[1].order, item[0])):
        wanted = [case for case in cases[name] if not only or name in only or case in only]
        if not wanted or (quick and check.slow):
            left_out.append(name)
            continue
        findings: list[Finding] = []
        for case in wanted:
            if check.timeout_s is not None:
                progress(f"{check.title}: {case or name} ...")
            findings += examine(name, case, check)
        sections.append(Section(name=name, title=check.title, findings=tuple(findings)))
    sections += [
        Section(name=name, title=name, findings=(finding,))
        for name, finding in broken.items()
        if not only or name in only
    ]
    healthy = not any(finding.level == "problem" for section in sections for finding in section.findings)
    return Report(
        pocketface=installed("pocketface") or "", healthy=healthy, sections=tuple(sections), left_out=tuple(left_out)
    )


def _resolved() -> tuple[dict[str, Check], dict[str, Finding]]:
    """Every check, and a finding for each that cannot be loaded: another distribution's must not stop ours."""
    checks, broken = {}, {}
    for name in CHECKS:
        try:
            checks[name] = CHECKS[name]
        except (ImportError, AttributeError, PocketfaceError) as error:
            reason = f"the check cannot be loaded: {type(error).__name__}: {first_line(error)}"
            mend = "pip install --force-reinstall --no-deps pocketface"
            broken[name] = Finding(subject=name, level="problem", state="not run", reason=reason, mend=mend)
    return checks, broken
