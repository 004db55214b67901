"""The learning curve of quantization-aware training, beside what quantizing the same network afterwards gives."""

from __future__ import annotations

import io

from pocketface.benchmarks.papers.sweep import SweepResults, SweepStudent
from pocketface.sdk.errors import MissingExtraError


def learning(results: SweepResults) -> list[str]:
    """Names of the students that were trained for 8 bits last."""
    return [student.name for student in results.students if student.curve]


def afterwards(results: SweepResults, student: SweepStudent) -> dict[str, float]:
    """What -> NME on the validation faces, percent: of the same network without that training, in float and in 8 bits;
    empty if the sweep does not have it."""
    others = [other for other in results.students if other.key == student.key and not other.later]
    return {
        f"{variant.name}, not trained for it" if variant.id.startswith("w8a8") else variant.name: variant.validation.nme
        for variant in results.variants
        if variant.student in [other.name for other in others] and variant.id.startswith(("w8a8", "fp32.onnx"))
    }


def curve_png(results: SweepResults, name: str) -> bytes:
    """NME over epochs, with a line for everything in `afterwards`.

    Raises:
        MissingExtraError: the extra ``bench`` is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("drawing a learning curve", "bench", str(error)) from error
    student = next(student for student in results.students if student.name == name)
    figure = Figure(figsize=(8, 4), dpi=110)
    axes = figure.subplots()
    axes.plot(range(1, len(student.curve) + 1), student.curve, "o-", label=f"{name}, rounding while it trains")
    for number, (what, nme) in enumerate(afterwards(results, student).items(), start=1):
        axes.axhline(nme, color=f"C{number}", ls="--", label=what)
    axes.set_xlabel("epoch")
    axes.set_ylabel("NME on the validation faces, %")
    axes.legend(fontsize=7)
    axes.grid(alpha=0.3)
    figure.tight_layout()
    out = io.BytesIO()
    figure.savefig(out, format="png", metadata={"Software": ""})
    return out.getvalue()
