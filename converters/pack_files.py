"""Files that were made elsewhere against their contract: which tensor is which, and what makes a file unusable.

path --suffix--> format --no external data, no links--> signature --static, batch 1--> bindings

Nothing is guessed: a tensor that the contract does not name is found by its shape, said so, and only if no other fits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec

from pocketface.converters.formats.base import Exported
from pocketface.converters.pack_contract import Loaded, TensorPart
from pocketface.converters.readers.base import Signature, TensorInfo
from pocketface.converters.readers.registry import read_signature
from pocketface.sdk.backends.onnx_file import check_onnx
from pocketface.sdk.contract import same_values
from pocketface.sdk.errors import BadInputError, BundleError, ConfigError
from pocketface.sdk.files import os_problem
from pocketface.sdk.manifest import Binding, Format, OutputSpec, Precision, Stage

SUFFIXES: Mapping[str, Format] = {".onnx": "onnx", ".tflite": "tflite", ".mlpackage": "coreml", ".pte": "executorch"}
"""Suffix -> format; the exporters' own suffixes, without importing them."""

STATIC: Mapping[Format, str] = {
    "onnx": "Fix it with onnxruntime's own tool: python -m onnxruntime.tools.make_dynamic_shape_fixed "
    "--dim_param NAME --dim_value 1 MODEL.onnx FIXED.onnx (or --input_name, --input_shape)",
    "tflite": "Convert it again from a signature with fixed sizes, batch 1",
    "coreml": "Convert it again with coremltools.TensorType(shape=(1, 3, S, S)), without RangeDim",
    "executorch": "Export it again with torch.export, batch 1, without dynamic_shapes",
}
"""Format -> how to get a file of batch 1 whose shapes are fixed."""

_DTYPES = ("float32", "float16", "uint8", "int8")


@dataclass(frozen=True)
class Bound:
    """A file and how its tensors belong to the contract.

    Attributes:
        source: the path as it was given.
        exported: the file with its bindings.
        notes: what was found that the contract does not say.
    """

    source: Path
    exported: Exported
    notes: tuple[str, ...]

    @property
    def id(self) -> str:
        return f"{self.exported.precision}.{self.exported.format}"


def format_of(path: Path) -> Format:
    """The format of a model file, by its suffix.

    Raises:
        BadInputError: no such file, another suffix, or a folder where a file belongs.
    """
    known = SUFFIXES.get(path.suffix.lower())
    if known is None:
        raise BadInputError(
            f"{path}: suffix {path.suffix!r}", choices=SUFFIXES, next="Convert the model to one of these formats"
        )
    if not path.exists():
        raise BadInputError(f"{path}: no such file", next="Check the path")
    if path.is_dir() != (known == "coreml"):
        raise BadInputError(f"{path} is a {'folder' if path.is_dir() else 'file'}", expected=f"a {_kind(known)}")
    return known


def checked_signature(path: Path, format: Format) -> Signature:
    """What a file takes and gives, once it is known to be whole, of batch 1 and of fixed shapes.

    Raises:
        BadInputError: it keeps data elsewhere, holds links, takes several inputs, has a dynamic shape or another batch.
        BundleError: it cannot be read.
        MissingExtraError: what reads this format is not installed.
    """
    if format == "onnx":
        _refuse_external(path)
    if path.is_dir():
        _refuse_links(path)
    found = read_signature(format, path)
    for kind, tensors in (("input", found.inputs), ("output", found.outputs)):
        for name, tensor in tensors.items():
            if any(isinstance(side, str) or side < 0 for side in tensor.shape):
                raise BadInputError(
                    f"{path.name}: {kind} {name!r} is {tensor}, a dynamic shape",
                    expected="fixed sizes",
                    next=STATIC[format],
                )
    if len(found.inputs) != 1:
        raise BadInputError(
            f"{path.name} takes {len(found.inputs)} inputs: {_listed(found.inputs)}",
            expected="one image",
            next="Fix the other inputs inside the model",
        )
    for name, tensor in found.inputs.items():
        if len(tensor.shape) == 4 and tensor.shape[0] != 1:
            raise BadInputError(
                f"{path.name}: input {name!r} is {tensor}, batch {tensor.shape[0]}",
                expected="batch 1",
                next=STATIC[format],
            )
    return found


def bind(path: Path, loaded: Loaded, stage: Stage) -> Bound:
    """Find a file's tensors.

    Args:
        path: of the model.
        loaded: its contract.
        stage: ``loaded.stage()``.

    Raises:
        BadInputError, BundleError, MissingExtraError: see ``format_of`` and ``checked_signature``.
        ConfigError: the contract does not fit the file, or leaves in doubt which tensor is which.
    """
    format = format_of(path)
    own = loaded.contract.files.get(path.name)
    precision = own.precision if own is not None and own.precision is not None else loaded.contract.precision
    if precision is None:
        raise ConfigError(
            f"{path.name}: its precision is not declared",
            next=f"Write precision: fp32, or, for this file alone, files: {{{path.name}: {{precision: w8a8}}}}",
        )
    found = checked_signature(path, format)
    finder = _Finder(path, found, loaded, stage)
    inputs = {"image": finder.image()}
    outputs = {spec.name: finder.output(spec) for spec in stage.outputs}
    used = [binding.tensor for binding in outputs.values()]
    if len(set(used)) != len(used):
        raise ConfigError(f"{path.name}: output {used[0]!r} is both points and score", choices=found.outputs)
    unused = tuple(name for name in found.outputs if name not in used)
    if unused:
        finder.notes.append(f"outputs that the contract does not use: {', '.join(unused)}")
    exported = Exported(path, format, precision, inputs, outputs, unused=unused)
    return Bound(path, exported, tuple(f"{path.name}: {note}" for note in finder.notes))


class _Stated(NamedTuple):
    """What the contract says of a tensor, the file's own entry first."""

    tensor: str | None
    part: TensorPart
    where: str

    @classmethod
    def of(cls, general: TensorPart, own: TensorPart | None, where: str) -> _Stated:
        own = own or TensorPart()
        merged = {
            name: getattr(own, name) if getattr(own, name) is not None else getattr(general, name)
            for name in TensorPart.__struct_fields__
        }
        return cls(merged["tensor"], TensorPart(**merged), where)


class _Finder:
    """Finds one file's tensors."""

    def __init__(self, path: Path, found: Signature, loaded: Loaded, stage: Stage) -> None:
        self.notes: list[str] = []
        self._path, self._found, self._contract, self._stage = path, found, loaded.contract, stage
        self._own = loaded.contract.files.get(path.name)

    def image(self) -> Binding:
        own = self._own.inputs.image if self._own else None
        stated = _Stated.of(self._contract.inputs.image, own, "inputs.image")
        (only,) = self._found.inputs
        name = only if stated.tensor is None else self._named(stated, self._found.inputs)
        tensor, size = self._found.inputs[name], self._stage.preprocess.size
        layouts = {"NCHW": (1, 3, size, size), "NHWC": (1, size, size, 3)}
        fitting = [layout for layout, shape in layouts.items() if tensor.shape == shape]
        if stated.part.layout is not None:
            fitting = [layout for layout in fitting if layout == stated.part.layout]
        if not fitting:
            layout = f" and the layout {stated.part.layout}" if stated.part.layout else ""
            raise ConfigError(
                f"{self._path.name}: input {name!r} is {tensor}",
                expected=f"{layouts['NCHW']} or {layouts['NHWC']}, of preprocess.size {size}{layout}",
                next="Correct the contract, or take another file",
            )
        if len(fitting) > 1:
            raise self._doubt("inputs.image.layout", "", list(layouts))
        if stated.tensor is None:
            self.notes.append(f"image is its only input, {name!r}, {tensor}, {fitting[0]}")
        binding = self._binding(name, tensor, stated, pixels=self._stage.inputs[0].dtype == "uint8")
        return msgspec.structs.replace(binding, layout=fitting[0])

    def output(self, spec: OutputSpec) -> Binding:
        general = self._contract.outputs.points if spec.name == "points" else self._contract.outputs.score
        own = getattr(self._own.outputs, spec.name) if self._own else None
        stated = _Stated.of(general or TensorPart(), own, f"outputs.{spec.name}")
        outputs = self._found.outputs
        if stated.tensor is not None:
            name = self._named(stated, outputs)
            if not same_values(_sides(outputs[name]), spec.shape):
                raise self._misfit(f"output {name!r} is {outputs[name]}", spec, outputs[name])
        else:
            fitting = [name for name, tensor in outputs.items() if same_values(_sides(tensor), spec.shape)]
            if not fitting:
                raise self._misfit(f"none of its outputs fits: {_listed(outputs)}", spec, *outputs.values())
            if len(fitting) > 1 and spec.name not in fitting:
                raise self._doubt(f"{stated.where}.tensor", f"one of {_listed(outputs)}", fitting)
            name = spec.name if spec.name in fitting else fitting[0]
            why = "of that name" if len(fitting) > 1 else "the only one that fits"
            self.notes.append(f"{spec.name} is output {name!r}, {outputs[name]}, {why}")
        return self._binding(name, outputs[name], stated, pixels=False)

    def _named(self, stated: _Stated, tensors: Mapping[str, TensorInfo]) -> str:
        if stated.tensor in tensors and stated.tensor is not None:
            return stated.tensor
        raise ConfigError(
            f"{self._path.name} has no tensor {stated.tensor!r} for {stated.where}",
            choices=tensors,
            next=f"Correct it, or, for this file alone, write it under files: {self._path.name}: {stated.where}.tensor",
        )

    def _binding(self, name: str, tensor: TensorInfo, stated: _Stated, *, pixels: bool) -> Binding:
        part, what = stated.part, f"{self._path.name}: {name!r} is {tensor}"
        if part.dtype is not None and part.dtype != tensor.dtype:
            raise ConfigError(what, expected=f"{part.dtype}, as {stated.where}.dtype says")
        if tensor.dtype not in _DTYPES:
            raise ConfigError(what, choices=_DTYPES, next="Convert the model with tensors of one of these types")
        scale = zero = None
        if pixels:
            if tensor.dtype != "uint8":
                raise ConfigError(
                    what,
                    expected="uint8, as preprocess.input is pixels",
                    next="For float pixel values write input: normalised, mean: [0, 0, 0], std: [1, 1, 1]",
                )
        elif tensor.dtype in ("uint8", "int8"):
            scale, zero = tensor.quantization or (None, None)
            scale = part.scale if part.scale is not None else scale
            zero = part.zero_point if part.zero_point is not None else zero
            if scale is None:
                also = "; or preprocess.input: pixels, if it takes them" if stated.where == "inputs.image" else ""
                raise ConfigError(
                    f"{what}, and neither the file nor the contract says its scale",
                    next=f"Write {stated.where}.scale and .zero_point{also}",
                )
            zero = zero or 0
        elif part.scale is not None or part.zero_point is not None:
            raise ConfigError(what, expected=f"an integer type, as {stated.where} has a scale")
        return Binding(tensor=name, shape=_sides(tensor), dtype=tensor.dtype, scale=scale, zero_point=zero)  # type: ignore[arg-type]

    def _doubt(self, key: str, what: str, choices: list[str]) -> ConfigError:
        return ConfigError(
            f"{self._path.name}: the contract leaves {key} open, and more than one fits",
            expected=what or None,
            choices=choices,
            next=f"Write {key} in the contract, or under files: {self._path.name}",
        )

    def _misfit(self, what: str, spec: OutputSpec, *tensors: TensorInfo) -> ConfigError:
        """Why no output fits, with the usual reasons."""
        next = f"Correct outputs.{spec.name}, or take another file"
        if spec.name == "points":
            n = self._stage.marks.points
            counts = [_count(tensor) for tensor in tensors]
            if any(_sides(tensor)[-2:] == (2, n) and n != 2 for tensor in tensors):
                next = "All x come before all y: transpose them inside the model"
            elif 3 * n in counts:
                next = "It gives three values a landmark: cut the third off inside the model"
            elif any(count % 2 == 0 and count > 2 for count in counts):
                next = f"The scheme has {n} points: choose another, or write your own as JSON (see pocketface schemes)"
        flat = f" or flat, (1, {2 * spec.shape[1]})" if spec.name == "points" else ""
        return ConfigError(
            f"{self._path.name}: {what}", expected=f"{spec.shape}{flat}, apart from sides of 1", next=next
        )


def precision_of(path: Path, format: Format) -> Precision | None:
    """The precision whose promises a file keeps, for a proposal; None if it is none."""
    from pocketface.converters.audit import audit

    order: tuple[Precision, ...] = ("fp32", "fp16", "pal4", "pal6", "w4", "w8a8", "w8a16", "dynamic", "w8")
    return next((name for name in order if audit(path, format, name).passed), None)


def _refuse_external(path: Path) -> None:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise os_problem(error, path, "read") from error
    try:
        check_onnx(data, path.name)
    except BundleError as error:
        if error.expected is None:
            raise BadInputError(error.what, next="Export it again") from error
        raise BadInputError(
            error.what,
            expected=error.expected,
            next=f'Put them inside: python -c "import onnx; onnx.save(onnx.load({path.name!r}), {"whole.onnx"!r})"',
        ) from error


def _refuse_links(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_symlink():
            raise BadInputError(
                f"{folder.name}: {path.relative_to(folder).as_posix()} is a link",
                expected="plain files",
                next="Copy what it points to into the folder, if you trust it",
            )


def _kind(format: Format) -> str:
    return "folder" if format == "coreml" else "file"


def _listed(tensors: Mapping[str, TensorInfo]) -> str:
    return ", ".join(f"{name} {tensor}" for name, tensor in tensors.items()) or "none"


def _sides(tensor: TensorInfo) -> tuple[int, ...]:
    return tuple(int(side) for side in tensor.shape)


def _count(tensor: TensorInfo) -> int:
    return math.prod(_sides(tensor))
