"""Each runtime, in a process of its own: is it installed, can it be loaded, and does it compute what it should.

They run the one layer of `layer`: as ONNX written by hand, or as a file in ``probes.json`` that was exported once
(``converters/doctor.py`` says how). So this needs no converter. A runtime for whose format there is neither is only
loaded; the check "formats" runs it, where its converter is installed.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import msgspec

from pocketface.sdk.backends.registry import BACKENDS
from pocketface.sdk.doctor import layer, tiny_onnx
from pocketface.sdk.doctor.base import Check, Finding, Step
from pocketface.sdk.doctor.versions import back_to_tested
from pocketface.sdk.errors import BundleError
from pocketface.sdk.manifest import Binding, Tolerances, Variant

TOLERANCE = 1e-4
"""Largest error, over the largest value, of a layer computed in float32; a broken kernel is off by far more."""

ALWAYS = ("onnx",)
"""Formats whose runtime comes with pocketface itself; the others come with the extra of their name."""

SYSTEMS = {"coreml": ("darwin", "macOS")}
"""Formats that one system alone runs: as ``sys.platform`` calls it, and as people do."""


class Probe(msgspec.Struct, frozen=True, kw_only=True):
    """A file of the one layer: its name's end, its layout, what made it, its bytes."""

    suffix: str
    layout: Literal["NCHW", "NHWC"]
    made_by: str
    data: bytes = msgspec.field(name="base64")  # msgspec keeps bytes so


def probes() -> dict[str, Probe]:
    """Format -> the layer as a file of that format."""
    stored = files("pocketface.sdk.doctor").joinpath("probes.json").read_bytes()
    by_hand = Probe(suffix=".onnx", layout="NCHW", made_by="hand", data=tiny_onnx.model())
    return {"onnx": by_hand, **msgspec.json.decode(stored, type=dict[str, Probe])}


def run(format: str, step: Step) -> Sequence[Finding]:
    """Load the runtime of a format, and run the layer if there is a file of it."""
    step(f"looking for the runtime of {format}")
    backend = BACKENDS[format]
    if not backend.available():
        return [_absent(format)]
    probe = probes().get(format)
    with tempfile.TemporaryDirectory() as folder:
        if probe is None:
            return [_loaded(format, backend, Path(folder), step)]
        path = Path(folder) / f"layer{probe.suffix}"
        path.write_bytes(probe.data)
        return [_ran(format, backend, path, probe, step)]


def _absent(format: str) -> Finding:
    platform, name = SYSTEMS.get(format, (sys.platform, ""))
    if platform != sys.platform:
        values: dict[str, str | float | None] = {"executor": f"runs on {name} only"}
        return Finding(subject=format, level="ok", state="not on this system", values=values)
    always = format in ALWAYS
    return Finding(
        subject=format,
        level="problem" if always else "note",
        state="not installed",
        reason=f"no {format} file can be run here",
        mend=back_to_tested("") if always else f"pip install 'pocketface[{format}]'",
    )


def _loaded(format: str, backend: Any, folder: Path, step: Step) -> Finding:
    """Let the backend load its runtime, by a file that every runtime must refuse."""
    step("loading the runtime")
    path = folder / "nothing"
    path.write_bytes(b"")
    began = time.perf_counter()
    try:
        backend(path, variant(format, "NCHW"))
    except BundleError:
        values: dict[str, str | float | None] = {"seconds": round(time.perf_counter() - began, 2)}
        return Finding(subject=format, level="ok", state="loads", values={"executor": "not run here", **values})
    return Finding(
        subject=format,
        level="problem",
        state="wrong result",
        reason="it takes an empty file for a model",
        mend=back_to_tested(format),
    )


def _ran(format: str, backend: Any, path: Path, probe: Probe, step: Step) -> Finding:
    step("loading the runtime and a one-layer model")
    began = time.perf_counter()
    loaded = backend(path, variant(format, probe.layout))
    step("running a one-layer model")
    found = loaded.run({layer.INPUT: layer.image()})[layer.OUTPUT]
    error = layer.relative_error(found, layer.expected(layer.image()))
    values: dict[str, str | float | None] = {
        "executor": loaded.executor,
        "max error": error,
        "seconds": round(time.perf_counter() - began, 2),
    }
    if error <= TOLERANCE:
        return Finding(subject=format, level="ok", state="works", values=values)
    return Finding(
        subject=format,
        level="problem",
        state="wrong result",
        values=values,
        reason=f"a convolution is off by {error:.2g} of its largest value, expected at most {TOLERANCE:g}",
        mend=back_to_tested(format),
    )


def variant(format: Any, layout: Literal["NCHW", "NHWC"]) -> Variant:
    """The layer's tensors in a file of this format, as a backend wants them described."""
    return Variant(
        id=f"fp32.{format}",
        format=format,
        precision="fp32",
        files=(),
        inputs={layer.INPUT: _binding(layer.INPUT, layer.INPUT_SHAPE, layout)},
        outputs={layer.OUTPUT: _binding(layer.OUTPUT, layer.OUTPUT_SHAPE, layout)},
        tolerances=Tolerances(),
        status="unverified",
    )


def _binding(name: str, shape: tuple[int, ...], layout: Literal["NCHW", "NHWC"]) -> Binding:
    if layout == "NHWC":
        shape = (shape[0], *shape[2:], shape[1])
    return Binding(tensor=name, shape=shape, layout=layout)


CHECK = Check(
    title="runtimes",
    run=run,
    cases=lambda: list(BACKENDS),
    timeout_s=120,
    mend=lambda format: back_to_tested("" if format in ALWAYS else format),
    order=60,
)
