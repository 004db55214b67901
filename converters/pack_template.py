"""A contract to start from: what the files say is filled in, what they cannot say is left empty, to be refused until
somebody who knows has filled it in."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from pocketface.converters.pack_files import checked_signature, format_of, precision_of
from pocketface.converters.readers.base import Signature, TensorInfo
from pocketface.sdk.errors import BadInputError
from pocketface.sdk.schemes import SCHEMES, load_scheme

HOLES = ("preprocess.mean", "preprocess.std", "outputs.points.decode", "weights_licence")
"""Keys that a template leaves empty."""


def template(files: Sequence[Path]) -> str:
    """The text of a contract for these files, YAML with comments.

    Args:
        files: the first one names the tensors; the others are listed under ``files`` where they differ.

    Raises:
        BadInputError: a file cannot be used, or takes no image.
        BundleError, MissingExtraError: it cannot be read.
    """
    if not files:
        raise BadInputError("no model files", expected="at least one")
    read = [_Read(path) for path in files]
    first = read[0]
    scheme, points, score = first.outputs()
    lines = [
        "# What these files cannot say themselves. Empty values must be filled in; every key: docs/contract.md",
        "schema: 1",
        f"name: {_quoted(_name(files[0]))}",
        f"scheme: {scheme}",
        "",
        "preprocess:",
        f"  size: {first.size}",
        f"  input: {first.input}{'':<8}# normalised: float values; pixels: uint8, normalised inside the network",
        "  mean:                    # three numbers in units of [0, 255]: value = (pixel - mean) / std",
        "  std:                     # [0, 0, 0] and [255, 255, 255] for values in [0, 1]; leave out with pixels",
        "  channels: RGB            # or BGR",
        "  box_scale: 1.0           # side of the crop over 1.25 x the longer side of the landmarks' bounding box",
        "",
        "inputs:",
        f"  image: {{tensor: {_quoted(first.image)}}}  # {first.signature.inputs[first.image]}, {first.layout}",
        "",
        "outputs:",
        *_comments("  # outputs of the file: ", first.signature),
        "  points:",
        f"    tensor: {points}",
        "    decode:                # normalised_points [-0.5, 0.5], unit_points [0, 1] or pixel_points of the input",
        score,
        "",
        _precision(first),
        *_files(read),
        *_reference(read),
        "",
        "weights_licence:           # the terms of the weights, e.g. Apache-2.0; 'not known' is an answer",
        "data: []                   # what it was trained on: [{name: 300-W, licence: research only}]",
        'description: ""',
        "",
    ]
    return "\n".join(lines)


class _Read:
    """One file, and what can be seen in it."""

    def __init__(self, path: Path) -> None:
        format = format_of(path)
        self.path = path
        self.signature = checked_signature(path, format)
        self.precision = precision_of(path, format)
        (self.image,) = self.signature.inputs
        tensor = self.signature.inputs[self.image]
        layouts = [
            (layout, tensor.shape[side])
            for layout, channel, side in (("NCHW", 1, 2), ("NHWC", 3, 1))
            if len(tensor.shape) == 4 and tensor.shape[channel] == 3
        ]
        if not layouts:
            raise BadInputError(
                f"{path.name}: input {self.image!r} is {tensor}", expected="an image, (1, 3, S, S) or (1, S, S, 3)"
            )
        self.layout, self.size = layouts[0]
        self.input = "pixels" if tensor.dtype == "uint8" and tensor.quantization is None else "normalised"

    def outputs(self) -> tuple[str, str, str]:
        """Scheme, name of the landmarks, and the lines about the score: empty or commented out where in doubt."""
        known = {load_scheme(name).points: name for name in SCHEMES}
        found = {name: _landmarks(tensor) for name, tensor in self.signature.outputs.items()}
        fitting = [name for name, count in found.items() if count in known] or [name for name, n in found.items() if n]
        points = fitting[0] if len(fitting) == 1 or "points" not in fitting else "points"
        if not fitting or (len(fitting) > 1 and points != "points"):
            listed = ", ".join(SCHEMES)
            return f"                   # one of {listed}, or the path of a .json file", "", _score([])
        count = found[points]
        scheme = known.get(count or 0, "")
        hint = (
            "" if scheme else f"                   # {count} points: the path of a .json file (see pocketface schemes)"
        )
        scores = [name for name, tensor in self.signature.outputs.items() if _sides(tensor) == 1]
        return scheme or hint, _quoted(points), _score(scores)

    def names(self) -> tuple[str, ...]:
        return (self.image, *self.signature.outputs)


def _files(read: Sequence[_Read]) -> list[str]:
    """The part about the other files, where they differ from the first."""
    first, others = read[0], read[1:]
    lines = []
    for item in others:
        if item.names() == first.names() and item.precision == first.precision:
            continue
        lines.append(f"  {_quoted(item.path.name)}:")
        lines.append(f"    precision: {item.precision or ''}")
        if item.image != first.image:
            lines.append(f"    inputs: {{image: {{tensor: {_quoted(item.image)}}}}}")
        if tuple(item.signature.outputs) != tuple(first.signature.outputs):
            lines.extend(_comments("    # its outputs: ", item.signature))
            _, points, score = item.outputs()
            lines += ["    outputs:", f"      points: {{tensor: {points}}}"]
            if not score.lstrip().startswith("#"):
                lines.append(f"      score: {{tensor: {score.partition('tensor: ')[2]}")
    return ["files:", *lines] if lines else []


def _reference(read: Sequence[_Read]) -> list[str]:
    """A float file is what the others should be compared with; the first one given needs no line."""
    chosen = next((item for item in read if item.precision == "fp32"), read[0])
    return [] if chosen is read[0] else [f"reference: {_quoted(chosen.path.name)}  # the others are compared with it"]


def _precision(first: _Read) -> str:
    return f"precision: {first.precision or '             # what it is: fp32, fp16, w8a8, w8, pal4, mixed'}"


def _score(names: list[str]) -> str:
    if len(names) == 1:
        return (
            f"  score: {{tensor: {_quoted(names[0])}}}"
            "  # its sigmoid is the probability of a face; leave it out if it is not"
        )
    return "  # score: {tensor: NAME}  # a logit of one value, if the network tells faces from other things"


def _landmarks(tensor: TensorInfo) -> int | None:
    """How many landmarks an output could hold: (n, 2) or flat, apart from sides of 1; at least 2."""
    sides = [int(side) for side in tensor.shape if side != 1]
    if len(sides) == 2 and sides[1] == 2:
        return sides[0]
    return sides[0] // 2 if len(sides) == 1 and sides[0] % 2 == 0 and sides[0] > 2 else None


def _sides(tensor: TensorInfo) -> int:
    total = 1
    for side in tensor.shape:
        total *= int(side)
    return total


def _comments(start: str, signature: Signature) -> list[str]:
    return [start + ", ".join(f"{name} {tensor}" for name, tensor in signature.outputs.items())]


def _name(path: Path) -> str:
    return re.sub(r"[^A-Za-z0-9._+-]", "-", path.name.split(".")[0]).lstrip("._+-")[:64] or "model"


def _quoted(text: str) -> str:
    """As YAML reads it back as the same text: JSON's strings are YAML's."""
    return text if re.fullmatch(r"[A-Za-z][A-Za-z_]{0,62}", text) and text.lower() not in _WORDS else json.dumps(text)


_WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}
