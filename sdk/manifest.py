"""The bundle's contract (schema 1) as frozen structs: manifest.json <-> Manifest.

Read it top down from `Manifest`, at the end. Unknown keys are refused; keys that begin with "x-" are ignored.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from pocketface.sdk import chain_ids
from pocketface.sdk.detector_spec import DetectorSpec as DetectorSpec
from pocketface.sdk.detector_spec import FaceBox as FaceBox
from pocketface.sdk.errors import BundleError
from pocketface.sdk.limits import check_values
from pocketface.sdk.markup import ClassSet as ClassSet
from pocketface.sdk.markup import Scheme as Scheme
from pocketface.sdk.measured import ChainRun, Latency, Parity, Part, Tolerances
from pocketface.sdk.measured import OutputParity as OutputParity
from pocketface.sdk.provenance import DataSource as DataSource
from pocketface.sdk.provenance import Provenance

SCHEMA = 1
FORMATS = ("onnx", "tflite", "coreml", "executorch")
PRECISIONS = ("fp32", "fp16", "w8a8", "w8a16", "w8", "dynamic", "w4", "pal4", "pal6", "mixed")

TASKS = ("landmarks", "relocalize", "uniformize", "segmentation", "detection")

Format = Literal["onnx", "tflite", "coreml", "executorch"]
Precision = Literal["fp32", "fp16", "w8a8", "w8a16", "w8", "dynamic", "w4", "pal4", "pal6", "mixed"]
Task = Literal["landmarks", "relocalize", "uniformize", "segmentation", "detection"]


class FileEntry(Part, frozen=True, kw_only=True):
    """One file of the bundle: path relative to its root with forward slashes, size, SHA-256 in hex."""

    path: str
    bytes: int
    sha256: str


class Preprocess(Part, frozen=True, kw_only=True):
    """How an image and a box become the input tensor.

    Attributes:
        size: side of the crop in pixels.
        box_scale: side of the crop over the longer side of the given box. The box follows the ground-truth convention:
            a square of 1.25 x the longer side of the landmarks' bounding box, same centre.
        channels: channel order.
        mean, std: per channel, in pixel units of [0, 255], in the order of ``channels``.
        inside: how the network itself normalises the uint8 pixels it is fed: folded into its first weights, by a
            multiply-add, or in its own way, which only its maker knows; empty where the application normalises and
            feeds float32.
    """

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    box_scale: float = 1.0
    channels: Literal["RGB", "BGR"] = "RGB"
    inside: Literal["", "folded", "multiply-add", "own"] = ""


class TensorSpec(Part, frozen=True, kw_only=True):
    """A tensor of the contract, independent of any file. For an input, ``shape`` is in NCHW.

    The input ``image`` is float32, normalised; or uint8, pixels as they are (see `Preprocess`), and then its bindings
    are uint8 without a scale, at any precision.
    """

    name: str
    shape: tuple[int, ...]
    dtype: Literal["float32", "uint8", "int8"] = "float32"


class OutputSpec(TensorSpec, frozen=True, kw_only=True):
    """An output and how it is decoded.

    Landmarks, (1, n, 2), x before y: ``normalised_points`` in crop coordinates u in [-0.5, 0.5]; ``unit_points`` in
    [0, 1], u + 0.5; ``pixel_points`` in pixels of the network's input, centres at integers, (u + 0.5) S - 0.5.
    ``face_logit``: (1,); its sigmoid is the probability that the box holds a face. A network may have none.
    ``head_pose``: (1, 3), optional: yaw (> 0: the face looks to the image's right), pitch (> 0: up) and roll (> 0:
    clockwise as seen), in units of 90 degrees.

    Of a relocalize stage, ``box_correction``, (1, 4): dx, dy in sides of the crop along its axes, clipped to [-1, 1],
    and the factors sw, sh on its side (RULe, eq 1), clipped to [0.25, 4]. Of a uniformize stage, ``unit_image``,
    (1, 3, S, S): the same crop, RGB in [0, 1].

    Of a segmentation stage, ``class_logits``, (1, C, M, M): before the softmax over the C classes of the stage, on an
    M x M grid over the same crop. Cells lie as a heat map's: cell j has its centre at u = (j + 0.5) / M - 0.5.

    Of a detection stage, ``anchor_faces``, (1, N, 5 + 2K): of each of N anchors the logit of a face, its box x0, y0,
    x1, y1, and the x and y of its K key points, all in crop coordinates u. See `DetectorSpec`.
    """

    decode: Literal[
        "normalised_points",
        "unit_points",
        "pixel_points",
        "face_logit",
        "head_pose",
        "box_correction",
        "unit_image",
        "class_logits",
        "anchor_faces",
    ]


class StateSpec(Part, frozen=True, kw_only=True):
    """A tensor that one frame hands to the next (a previous mask, a ConvLSTM state).

    Attributes:
        shape: of the input, (1, C, M, M) for a previous mask.
        initial: every value of it at the beginning, and after a cut.
        input, output: the stage's input that takes it, and the output that gives the next one.
        frame: in ``crop`` coordinates it is resampled from the previous crop to the current one, and is 0 where the
            previous crop did not reach.
        handed: what is handed on of the output: its values as they are, or their softmax over the classes; not written
            where it is ``as-is``.
    """

    name: str
    shape: tuple[int, ...]
    dtype: Literal["float32"] = "float32"
    initial: float = 0.0
    input: str
    output: str
    reset: Literal["cut", "never"] = "cut"
    frame: Literal["crop", "image", "none"] = "none"
    handed: Literal["as-is", "softmax"] = "as-is"


class Binding(Part, frozen=True, kw_only=True):
    """Where a contract tensor is found in one file.

    Attributes:
        tensor: the name in the file; for TFLite, the name in its signature.
        shape, dtype, layout: as the file has them. An output's shape may differ from the contract's by sides of 1, or
            be flat: (1, 2n) holds x0, y0, x1, y1 and so on.
        scale, zero_point: quantization of the tensor at the file's border, if it is quantized there.
    """

    tensor: str
    shape: tuple[int, ...]
    dtype: Literal["float32", "float16", "uint8", "int8"] = "float32"
    layout: Literal["NCHW", "NHWC", ""] = ""
    scale: float | None = None
    zero_point: int | None = None


class Variant(Part, frozen=True, kw_only=True):
    """One exported file (or folder) of a stage and everything known about it.

    Attributes:
        id: unique in the bundle: PRECISION.FORMAT by custom, and in a chain STAGE.PRECISION.FORMAT always.
        unused: outputs of the file that the contract has no name for.
    """

    id: str
    format: Format
    precision: Precision
    files: tuple[FileEntry, ...]
    inputs: dict[str, Binding]
    outputs: dict[str, Binding]
    tolerances: Tolerances
    status: Literal["passed", "failed", "unverified"]
    reason: str = ""
    parity: Parity | None = None
    metrics: dict[str, float] = msgspec.field(default_factory=dict)
    latency: tuple[Latency, ...] = ()
    quantization: dict[str, str] = msgspec.field(default_factory=dict)
    unused: tuple[str, ...] = ()

    @property
    def total_bytes(self) -> int:
        return sum(file.bytes for file in self.files)


class Stage(Part, frozen=True, kw_only=True):
    """One network: its inputs, preprocessing, outputs, decoding and variants.

    Attributes:
        task: ``landmarks`` finds them; before it may come ``relocalize``, which corrects the box, and ``uniformize``,
            which redraws the crop as it would look in good conditions. ``segmentation`` gives a mask, ``detection``
            faces in a whole picture; each stands alone.
        scheme: of a landmarks stage; None for the others. See ``marks``.
        classes: of a segmentation stage; None, and not written, for the others. See ``class_set``.
        detector: of a detection stage; None, and not written, for the others.
        flops: 0 where it is not known.
    """

    name: str
    task: Task
    preprocess: Preprocess
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[OutputSpec, ...]
    states: tuple[StateSpec, ...] = ()
    scheme: Scheme | None = None
    classes: ClassSet | None = None
    detector: DetectorSpec | None = None
    parameters: int
    flops: int
    variants: tuple[Variant, ...]

    @property
    def marks(self) -> Scheme:
        """The landmark scheme.

        Raises:
            BundleError: the stage finds no landmarks.
        """
        if self.scheme is None:
            raise BundleError(
                f"stage {self.name!r} has the task {self.task}",
                expected="landmarks, which has a scheme",
                next="Take the last stage of the chain",
            )
        return self.scheme

    @property
    def class_set(self) -> ClassSet:
        """The classes.

        Raises:
            BundleError: the stage gives no mask.
        """
        if self.classes is None:
            raise BundleError(
                f"stage {self.name!r} has the task {self.task}",
                expected="segmentation, which has classes",
                next="Take a segmentation bundle",
            )
        return self.classes


class Manifest(Part, frozen=True, kw_only=True):
    """The whole bundle: one network, or a chain of them.

    Attributes:
        default: id of the variant, or chain (no mix), that ``load`` takes when none is named.
        metrics: of the torch fp32 network, or chain, on the test set, e.g. nme, median, fr, auc.
        runs: what was measured of whole chains; empty, and not written, for a single network.
    """

    schema: int
    name: str
    default: str
    stages: tuple[Stage, ...]
    golden: tuple[FileEntry, ...]
    card: FileEntry
    provenance: Provenance
    weights_licence: str
    allow_unverified: tuple[str, ...] = ()
    metrics: dict[str, float] = msgspec.field(default_factory=dict)
    runs: tuple[ChainRun, ...] = ()

    @property
    def landmarks(self) -> Stage:
        """The stage that gives the landmarks, the last one.

        Raises:
            BundleError: there is none.
        """
        if not self.stages or self.stages[-1].task != "landmarks":
            raise BundleError(
                f"bundle {self.name!r} does not end in a landmarks stage", next="Fetch or build the bundle again"
            )
        return self.stages[-1]

    @property
    def chains(self) -> tuple[str, ...]:
        """Ids of what can be run from a box to landmarks: of a chain, each PRECISION.FORMAT that every stage has; of a
        single network, its variants' own ids.
        """
        return chain_ids.common(self.stages)

    def chain(self, id: str | None = None) -> tuple[tuple[Stage, Variant], ...]:
        """Which variant of each stage runs, in the stages' order.

        Args:
            id: PRECISION.FORMAT takes that variant of every stage; a mix names a variant of each, as in
                ``relocalize.w8a8.tflite+landmarks.fp32.onnx``; of a single network, a variant's id. None takes the
                bundle's own default.

        Raises:
            BundleError: a stage has no such variant, or is named twice or not at all.
        """
        return chain_ids.resolve(self.stages, id or self.default, self.name)

    def variant(self, id: str | None = None) -> tuple[Stage, Variant]:
        """The stage and variant of this id (default: the bundle's own default). Of a chain, one variant of one stage,
        as in ``landmarks.fp32.onnx``: see ``chain`` for one of each.

        Raises:
            BundleError: there is none of that name.
        """
        wanted = id or self.default
        for stage in self.stages:
            for variant in stage.variants:
                if variant.id == wanted:
                    return stage, variant
        known = [variant.id for stage in self.stages for variant in stage.variants]
        raise BundleError(f"bundle {self.name!r} has no variant {wanted!r}", choices=known, next="Name one of these")


def to_plain(manifest: Manifest) -> dict[str, Any]:
    """Manifest -> plain values. What a network has no use for is left out, so that older releases still read it."""
    raw: dict[str, Any] = msgspec.to_builtins(manifest)
    if not manifest.runs:
        del raw["runs"]
    for stage in raw["stages"]:
        for key in ("classes", "detector"):
            if stage[key] is None:
                del stage[key]
        for state in stage["states"]:
            if state["handed"] == "as-is":
                del state["handed"]
    for bounds in (variant["tolerances"] for stage in raw["stages"] for variant in stage["variants"]):
        if bounds["max_pose_error"] is None:
            del bounds["max_pose_error"]
    return raw


def encode(manifest: Manifest) -> bytes:
    """Manifest -> indented JSON."""
    return msgspec.json.format(msgspec.json.encode(to_plain(manifest)), indent=2) + b"\n"


def decode(data: bytes) -> Manifest:
    """JSON -> Manifest.

    Raises:
        BundleError: not JSON, an unknown schema, an unknown key, a wrong type; a number or text that no manifest holds.
    """
    try:
        raw = _without_extensions(msgspec.json.decode(data))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError(f"manifest.json is not JSON: {error}", next="Fetch or build the bundle again") from error
    schema = raw.get("schema") if isinstance(raw, dict) else None
    if type(schema) is not int or schema != SCHEMA:  # True and 1.0 are equal to it, and are not it
        raise BundleError(
            f"manifest.json has schema {schema!r}",
            expected=f"{SCHEMA} or older",
            next="Update pocketface: pip install -U pocketface",
        )
    check_values(raw)
    try:
        return msgspec.convert(raw, Manifest)
    except msgspec.ValidationError as error:
        raise BundleError(f"manifest.json: {error}", next="Build the bundle again with this version") from error


def _without_extensions(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_extensions(item) for key, item in value.items() if not key.startswith("x-")}
    return [_without_extensions(item) for item in value] if isinstance(value, list) else value
