"""The contract of a network that was not trained here: what its files cannot say themselves, as frozen data.

YAML in, unknown keys refused. Read it top down from `PackContract`, at the end; docs/contract.md explains each key.
"""

from __future__ import annotations

import hashlib
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from pocketface.converters.keys import parsed
from pocketface.converters.verdict import GATES
from pocketface.sdk.errors import ConfigError, MissingExtraError
from pocketface.sdk.files import os_problem
from pocketface.sdk.manifest import OutputSpec, Precision, Preprocess, Scheme, Stage, TensorSpec, Tolerances
from pocketface.sdk.schemes import load_scheme

PAGE = "docs/contract.md"

Decode = Literal["normalised_points", "unit_points", "pixel_points"]
Dtype = Literal["float32", "float16", "uint8", "int8"]
Triple = tuple[float, float, float]

MAX_GOLDEN = 64


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Common settings of every part of a contract."""


class PreprocessPart(Config, frozen=True, kw_only=True):
    """How an image and a box become the input tensor; see `Preprocess`.

    Attributes:
        input: what the application feeds: ``"normalised"`` float values, or ``"pixels"``, uint8 values that the network
            normalises itself.
        mean, std: per channel, in pixel units of [0, 255]; not needed with ``input: pixels``.
    """

    size: int
    mean: Triple | None = None
    std: Triple | None = None
    channels: Literal["RGB", "BGR"] = "RGB"
    box_scale: float = 1.0
    input: Literal["normalised", "pixels"] = "normalised"

    def __post_init__(self) -> None:
        if not 1 <= self.size <= 4096:
            raise ConfigError(f"preprocess.size: {self.size}", expected="1 to 4096 pixels")
        if not (math.isfinite(self.box_scale) and self.box_scale > 0):
            raise ConfigError(f"preprocess.box_scale: {self.box_scale:g}", expected="a finite number above 0")
        if not all(math.isfinite(value) for value in (*(self.mean or ()), *(self.std or ()))):
            raise ConfigError(f"preprocess.mean, std: {self.mean}, {self.std}", expected="finite numbers")
        if self.std is not None and not min(self.std) > 0:
            raise ConfigError(f"preprocess.std: {self.std}", expected="three numbers above 0, in units of [0, 255]")
        for key in ("mean", "std"):
            if self.input == "normalised" and getattr(self, key) is None:
                raise ConfigError(
                    f"preprocess.{key} is missing",
                    expected="three numbers in units of [0, 255], or input: pixels",
                    next=f"Ask whoever trained the network; see {PAGE}",
                )


class TensorPart(Config, frozen=True, kw_only=True):
    """A tensor of the files. Everything is found in the file where that leaves no doubt; what is given must fit.

    Attributes:
        tensor: its name in the file (``.pte``: its place, ``"0"``).
        layout: of the image.
        dtype: as the file has it.
        scale, zero_point: of an integer tensor, where the file does not say.
    """

    tensor: str | None = None
    layout: Literal["NCHW", "NHWC"] | None = None
    dtype: Dtype | None = None
    scale: float | None = None
    zero_point: int | None = None


class PointsPart(TensorPart, frozen=True, kw_only=True):
    """The landmarks, and their units; see `OutputSpec`."""

    decode: Decode


class ScorePart(TensorPart, frozen=True, kw_only=True):
    """The face score. A contract without it describes a network that gives none."""

    decode: Literal["face_logit"] = "face_logit"


class InputsPart(Config, frozen=True, kw_only=True):
    """The contract's inputs."""

    image: TensorPart = TensorPart()


class OutputsPart(Config, frozen=True, kw_only=True):
    """The contract's outputs."""

    points: PointsPart
    score: ScorePart | None = None


class FileOutputsPart(Config, frozen=True, kw_only=True):
    """The outputs in one file."""

    points: TensorPart = TensorPart()
    score: TensorPart = TensorPart()


class FilePart(Config, frozen=True, kw_only=True):
    """What is different in one of several files."""

    precision: Precision | None = None
    inputs: InputsPart = InputsPart()
    outputs: FileOutputsPart = FileOutputsPart()


class BoundsPart(Config, frozen=True, kw_only=True):
    """Bounds of one precision; what is left out stays as in ``GATES``, ``null`` lifts a bound. See `Tolerances`."""

    max_tensor_error: float | msgspec.UnsetType | None = msgspec.UNSET
    max_nme_increase: float | msgspec.UnsetType | None = msgspec.UNSET
    max_score_error: float | msgspec.UnsetType | None = msgspec.UNSET
    max_relative_error: float | msgspec.UnsetType | None = msgspec.UNSET

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            bound = getattr(self, name)
            if isinstance(bound, float) and not bound >= 0:
                raise ConfigError(f"tolerances: {name}: {bound:g}", expected="0 or more, or null for no bound")


class DataPart(Config, frozen=True, kw_only=True):
    """A data set that the network was trained on, as its maker says."""

    name: str
    licence: str


class PackContract(Config, frozen=True, kw_only=True):
    """The whole contract.

    Attributes:
        name: of the bundle.
        scheme: a built-in landmark scheme, or the path of a ``.json`` file, relative to the contract.
        precision: of every file that ``files`` does not list.
        files: file name -> what is different there.
        tolerances: precision -> bounds.
        reference: name of the file that the others are compared with (default: the first one given).
        golden_faces: drawn faces whose tensors go into the bundle, and on which files are compared.
        weights_licence: terms of the weights; shown by ``inspect`` and on the card.
        data: what it was trained on, for the card.
        description: of the network, for the card; Markdown.
    """

    schema: Literal[1] = 1
    name: str
    task: Literal["landmarks"] = "landmarks"
    scheme: str
    preprocess: PreprocessPart
    inputs: InputsPart = InputsPart()
    outputs: OutputsPart
    precision: Precision | None = None
    files: dict[str, FilePart] = {}
    tolerances: dict[Precision, BoundsPart] = {}
    reference: str = ""
    golden_faces: int = 4
    weights_licence: str
    data: tuple[DataPart, ...] = ()
    description: str = ""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}", self.name):
            raise ConfigError(f"name {self.name!r}", expected="letters, digits and . _ + -, as in a file's name")
        if not 1 <= self.golden_faces <= MAX_GOLDEN:
            raise ConfigError(f"golden_faces: {self.golden_faces}", expected=f"1 to {MAX_GOLDEN}")
        if not self.weights_licence.strip():
            raise ConfigError("weights_licence is empty", expected="the terms of the weights, or 'not known'")


@dataclass(frozen=True)
class Loaded:
    """A contract with the text it was read from and the scheme it names."""

    contract: PackContract
    text: str
    scheme: Scheme

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()

    def stage(self) -> Stage:
        """As the manifest has it, without variants; parameters and FLOPs are 0."""
        spec, outputs = self.contract.preprocess, self.contract.outputs
        pixels = spec.input == "pixels"
        size, points = spec.size, self.scheme.points
        return Stage(
            name=self.contract.task,
            task=self.contract.task,
            preprocess=Preprocess(
                size=size,
                mean=spec.mean or (0.0, 0.0, 0.0),
                std=spec.std or (1.0, 1.0, 1.0),
                box_scale=spec.box_scale,
                channels=spec.channels,
                inside="own" if pixels else "",
            ),
            inputs=(TensorSpec(name="image", shape=(1, 3, size, size), dtype="uint8" if pixels else "float32"),),
            outputs=(
                OutputSpec(name="points", shape=(1, points, 2), decode=outputs.points.decode),
                *([] if outputs.score is None else [OutputSpec(name="score", shape=(1,), decode="face_logit")]),
            ),
            scheme=self.scheme,
            parameters=0,
            flops=0,
            variants=(),
        )

    def tolerances(self, precision: Precision) -> Tolerances:
        """The bounds of a precision: those of ``GATES``, changed by the contract's."""
        bounds = GATES.get(precision, Tolerances())
        own = self.contract.tolerances.get(precision, BoundsPart())
        given = {name: getattr(own, name) for name in own.__struct_fields__}
        changes = {name: value for name, value in given.items() if value is not msgspec.UNSET}
        return msgspec.structs.replace(bounds, **changes)


def load_contract(path: Path) -> Loaded:
    """Read a contract.

    Raises:
        ConfigError: the file is missing or not YAML, a key is unknown or missing, a value has the wrong type or does
            not fit the others.
        UnknownNameError: no such scheme.
        MissingExtraError: the YAML reader is not installed.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise ConfigError(
            f"contract {path}: no such file", next="Get one to fill in: pocketface pack MODEL --template"
        ) from error
    except OSError as error:
        raise os_problem(error, path, "read") from error
    return parse_contract(data, str(path), path.parent)


def parse_contract(data: bytes, where: str = "contract", folder: Path = Path()) -> Loaded:
    """``load_contract`` for the bytes of the file; a scheme's path is relative to ``folder``."""
    try:
        import yaml
    except ImportError as error:
        raise MissingExtraError("reading a contract", "compress", str(error)) from error
    try:
        text = data.decode("utf-8")
        raw = yaml.safe_load(text)
    except (UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"contract {where}: {' '.join(str(error).split())}", next="Mend the YAML") from error
    try:
        contract = parsed(raw, PackContract, f"contract {where}", f"Mend the contract, or see {PAGE}")
    except ConfigError as error:
        if error.what.startswith("contract "):
            raise
        # From a part's own check, which does not know the file.
        raise ConfigError(
            f"contract {where}: {error.what}", expected=error.expected, choices=error.choices, next=error.next
        ) from error
    name = contract.scheme
    scheme = load_scheme(folder / name if name.endswith(".json") else name)
    return Loaded(contract, text, scheme)
