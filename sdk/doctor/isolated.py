"""One case of one check in a process of its own, so that a library that crashes or hangs is reported, not suffered.

The child is ``python -m pocketface.sdk.doctor.isolated CHECK CASE FOLDER``. It writes its findings to FOLDER, says
there what it is doing, and whatever the libraries print goes to a file beside it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

import msgspec

from pocketface.sdk.doctor.base import Check, Finding, Step
from pocketface.sdk.doctor.registry import CHECKS
from pocketface.sdk.errors import MissingExtraError, PocketfaceError

_FINDINGS, _STEP, _CHATTER = "findings.json", "step", "chatter"
_MAX_CHATTER = 20_000


def examine(name: str, case: str, check: Check) -> list[Finding]:
    """Run a case where its check wants it run; whatever goes wrong is a finding."""
    if check.timeout_s is None:
        return guarded(check, case, lambda text: None)
    try:
        with tempfile.TemporaryDirectory(prefix="pocketface-doctor-", ignore_cleanup_errors=True) as folder:
            return _in_child(name, case, check, Path(folder), check.timeout_s)
    except OSError as error:
        reason = f"its process cannot be started: {error}"
        mend = "pocketface doctor --only system"
        return [Finding(subject=case or name, level="problem", state="not run", reason=reason, mend=mend)]


def guarded(check: Check, case: str, step: Step) -> list[Finding]:
    """Run a check here; an error it raises becomes a finding."""
    chatter = ""
    try:
        return list(check.run(case, step))
    except PocketfaceError as error:
        reason, mend = str(error), command_of(error) or check.mend(case)
    except Exception as error:  # a library's error is what we are here to report
        reason, mend = f"{type(error).__name__}: {first_line(error)}", check.mend(case)
        chatter = traceback.format_exc()
    subject = case or check.title
    return [Finding(subject=subject, level="problem", state="failed", reason=reason, mend=mend, chatter=chatter)]


def command_of(error: BaseException) -> str:
    """The command that an error about a missing extra names; ``""`` for others: to install what is there but broken
    changes nothing.
    """
    if not isinstance(error, MissingExtraError) or error.next is None:
        return ""
    return error.next.partition(": ")[2]


def first_line(error: BaseException) -> str:
    """The first line of an error's message, cut to a length that fits a report."""
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else "no message"


def _in_child(name: str, case: str, check: Check, folder: Path, timeout_s: float) -> list[Finding]:
    with open(folder / _CHATTER, "wb") as chatter:
        # In a group of its own: a converter's own children are stopped with it. Not in the current folder: what lies
        # there must not be imported, and nothing must be left there.
        child = subprocess.Popen(
            [sys.executable, "-m", "pocketface.sdk.doctor.isolated", name, case, str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=chatter,
            stderr=chatter,
            cwd=folder,
            env={**os.environ, "PYTHONFAULTHANDLER": "1"},
            start_new_session=True,
        )
        try:
            code: int | None = child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            _stop(child)
    said = (folder / _CHATTER).read_text(encoding="utf-8", errors="replace")[-_MAX_CHATTER:].strip()
    with contextlib.suppress(FileNotFoundError, msgspec.DecodeError):
        findings = msgspec.json.decode((folder / _FINDINGS).read_bytes(), type=list[Finding])
        if findings and code == 0:
            return [
                msgspec.structs.replace(finding, chatter=f"{said}\n{finding.chatter}".strip()) for finding in findings
            ]
    doing = ""
    with contextlib.suppress(FileNotFoundError):
        doing = (folder / _STEP).read_text(encoding="utf-8")
    state, what = _end(code, timeout_s)
    reason = what + (f" while {doing}" if doing else "")
    finding = Finding(
        subject=case or name, level="problem", state=state, reason=reason, mend=check.mend(case), chatter=said
    )
    return [finding]


def _end(code: int | None, timeout_s: float) -> tuple[str, str]:
    if code is None:
        return "timed out", f"gave no result within {timeout_s:g} s"
    if code < 0:
        try:
            signal_name = signal.Signals(-code).name
        except ValueError:
            signal_name = f"signal {-code}"
        hint = " (the system may have run out of memory)" if signal_name == "SIGKILL" else ""
        return "crashed", f"the process was ended by {signal_name}{hint}"
    return "crashed", f"the process ended with exit code {code} and no result"


def _stop(child: subprocess.Popen[bytes]) -> None:
    """End the child and what it started."""
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
    else:
        child.kill()
    child.wait()


def _child(name: str, case: str, folder: Path) -> None:
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource  # not on Windows

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash that is expected needs no core file

    def step(text: str) -> None:
        (folder / _STEP).write_text(text, encoding="utf-8")

    step("loading the check")
    findings = guarded(CHECKS[name], case, step)
    temporary = folder / f"{_FINDINGS}.partial"
    temporary.write_bytes(msgspec.json.encode(findings))
    temporary.rename(folder / _FINDINGS)
    step("ending")
    sys.stdout.flush()


if __name__ == "__main__":
    _child(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
