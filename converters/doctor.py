"""What this package adds to ``pocketface doctor``: each export format, by really exporting one layer and running it.

The layer and its right result are those of `pocketface.sdk.doctor.layer`, in numpy: so a broken torch shows too. Of
`sdk/doctor/probes.json`, the entry ``tflite`` is the file that ``export_layer("tflite", path)`` writes.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from pocketface.converters.executors.registry import executor_of
from pocketface.converters.formats.registry import EXPORTERS
from pocketface.sdk.doctor import layer
from pocketface.sdk.doctor.base import Check, Finding, Level, Step
from pocketface.sdk.doctor.isolated import command_of, first_line
from pocketface.sdk.doctor.runtimes import TOLERANCE
from pocketface.sdk.doctor.versions import back_to_tested, extra_with
from pocketface.sdk.errors import PocketfaceError
from pocketface.sdk.manifest import Tolerances, Variant

if TYPE_CHECKING:
    from torch import nn

    from pocketface.converters.formats.base import Exported
    from pocketface.sdk.backends.base import Backend

EXTRA = "compress"
"""The extra that brings torch, and with it everything an export needs."""


def run(format: str, step: Step) -> Sequence[Finding]:
    """Export the layer, run the file, compare."""
    values: dict[str, str | float | None] = {"export": None, "run": None, "executor": None, "max error": None}
    began = time.perf_counter()

    def found(level: Level, state: str, reason: str = "", mend: str = "") -> list[Finding]:
        values["seconds"] = round(time.perf_counter() - began, 2)
        return [Finding(subject=format, level=level, state=state, values=values, reason=reason, mend=mend)]

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        step("exporting one layer")
        try:
            exported = export_layer(format, Path(folder))
        except Exception as error:  # whatever a converter raises is what we are here to report
            missing = missing_module(error)
            if missing is not None:
                mend = f"pip install 'pocketface[{extra_with(missing) or EXTRA}]'"
                return found("note", "not installed", f"exporting {format} needs {missing}", mend)
            values["export"] = "failed"
            return found("problem", "export failed", _why(error), _mend(error))
        finally:
            for log in Path(folder).glob("*.log"):  # what the converter said, for --debug
                print(log.read_text(encoding="utf-8", errors="replace"))
        values["export"] = f"ok, {time.perf_counter() - began:.1f} s"
        step("running the exported layer")
        try:
            backend = executor(exported)
            if backend is None:
                values["run"] = "nothing here runs it"
                return found("ok", "exports")
            values["executor"] = backend.executor
            result = backend.run({layer.INPUT: layer.image()})[layer.OUTPUT]
        except Exception as error:
            values["run"] = "failed"
            return found("problem", "run failed", _why(error), _mend(error))
        off = layer.relative_error(result, layer.expected(layer.image()))
        values["max error"] = off
        if off > TOLERANCE:
            values["run"] = "wrong"
            reason = f"the layer is off by {off:.2g} of its largest value, expected at most {TOLERANCE:g}"
            return found("problem", "wrong result", reason, back_to_tested(EXTRA))
        values["run"] = "ok"
        return found("ok", "works")


def export_layer(format: str, folder: Path) -> Exported:
    """Export the layer in fp32 into a folder, as ``layer`` with the format's suffix."""
    exporter = EXPORTERS[format]
    size = layer.INPUT_SHAPE[-1]
    exported: Exported = exporter.export(
        network(), precision="fp32", path=folder / f"layer{exporter.suffix}", input_size=size
    )
    return exported


def network() -> nn.Module:
    """The layer in torch."""
    import torch

    outputs, inputs, kernel, _ = layer.WEIGHT_SHAPE
    net = torch.nn.Conv2d(inputs, outputs, kernel, bias=False)
    net.output_names = (layer.OUTPUT,)  # type: ignore[assignment]
    with torch.no_grad():
        net.weight.copy_(torch.from_numpy(layer.weights()))
    return net.eval()


def executor(exported: Exported) -> Backend | None:
    """What runs an exported file here: the format's runtime or its reference executor; None if nothing does."""
    kind = executor_of(exported.format)
    if kind is None:
        return None
    variant = Variant(
        id=f"fp32.{exported.format}",
        format=exported.format,
        precision="fp32",
        files=(),
        inputs=dict(exported.inputs),
        outputs=dict(exported.outputs),
        tolerances=Tolerances(),
        status="unverified",
    )
    return kind(exported.path, variant)


def missing_module(error: BaseException) -> str | None:
    """The top-level module that an error, or one of its causes, says is not installed; None if none is.

    A part of an installed package that cannot be found is no missing package but a broken one.
    """
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ModuleNotFoundError) and seen.name:
            top = seen.name.partition(".")[0]
            if top != "pocketface" and find_spec(top) is None:
                return top
        seen = seen.__cause__ or seen.__context__
    return None


def _why(error: Exception) -> str:
    text = str(error) if isinstance(error, PocketfaceError) else f"{type(error).__name__}: {first_line(error)}"
    return " ".join(text.split())[:500]


def _mend(error: Exception) -> str:
    return command_of(error) or back_to_tested(EXTRA)


CHECK = Check(
    title="export formats",
    run=run,
    cases=lambda: list(EXPORTERS),
    timeout_s=300,
    mend=lambda format: back_to_tested(EXTRA),
    slow=True,
    order=70,
)
