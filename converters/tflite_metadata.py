"""TFLite metadata: what to feed a ``.tflite`` file, written into the file itself, where Android Studio and the task
libraries look for it.

Schema: ``metadata_schema.fbs`` of tensorflow/tflite-support, file identifier M001, its fields of version 1.0.0. The
slot numbers here are the fields' positions in it. It is built with the plain flatbuffers package, since the generated
classes come only with packages that bring all of TensorFlow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pocketface.converters.formats.interface import INPUT, Interface

if TYPE_CHECKING:
    import flatbuffers
    from torch import nn

ENTRY, IDENTIFIER = "TFLITE_METADATA", b"M001"
PARSER_VERSION = "1.0.0"
"""The oldest parser that knows every field used here."""

# Members of the schema's unions and of ColorSpaceType.
_FEATURE, _IMAGE, _NORMALIZATION = 1, 2, 1
_UNKNOWN, _RGB = 0, 1

_OUTPUTS = {
    "points": "Landmarks, x and y in sides of the crop: -0.5 is its left or upper edge, 0.5 its right or lower one.",
    "score": "Logit of the probability that the crop shows a face.",
}


@dataclass(frozen=True)
class TensorNote:
    """What is said about one tensor.

    Attributes:
        name: in the contract and in the file's signature.
        channels: ``"RGB"`` or ``"BGR"`` for an image, empty for anything else.
        mean, std: the application feeds ``(pixel - mean) / std``; empty where that is not known.
        low, high: least and greatest values, for one channel or all.
    """

    name: str
    description: str = ""
    channels: str = ""
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()


@dataclass(frozen=True)
class ModelNote:
    """What is said about a file."""

    name: str
    description: str
    inputs: tuple[TensorNote, ...]
    outputs: tuple[TensorNote, ...]


def describe(net: nn.Module, interface: Interface) -> ModelNote:
    """What a network says about itself: ``mean`` and ``std``, ``channels`` (default RGB), and whether it takes pixels.

    Args:
        net: the network that is exported.
        interface: its inputs and outputs.
    """
    inputs = []
    for name, value in interface.inputs.items():
        mean, std = (tuple(float(item) for item in getattr(net, key, ())) for key in ("mean", "std"))
        if name != INPUT:
            inputs.append(TensorNote(name))
        elif str(value.dtype) == "torch.uint8":
            inputs.append(_pixels(name, str(getattr(net, "channels", "RGB"))))
        else:
            inputs.append(_normalised(name, str(getattr(net, "channels", "RGB")), mean, std))
    outputs = tuple(TensorNote(name, _OUTPUTS.get(name, "")) for name in interface.outputs)
    title = str(getattr(net, "name", type(net).__name__))
    takes = ", ".join(note.description or note.name for note in inputs)
    return ModelNote(title, f"Takes {takes}. Gives {', '.join(interface.outputs)}.", tuple(inputs), outputs)


def add_metadata(data: bytes, note: ModelNote) -> bytes:
    """A TFLite file with this metadata in it, instead of any that it had.

    Args:
        data: the file; it has a signature whose names are those of the notes.
        note: what to say; its tensors may come in any order.
    """
    from ai_edge_litert.tools import flatbuffer_utils

    schema = flatbuffer_utils.schema_fb
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(data))
    signature, graph = model.signatureDefs[0], model.subgraphs[0]
    # Readers go by position: the notes must stand in the order of the graph's tensors.
    ordered = ModelNote(
        note.name,
        note.description,
        _in_order(note.inputs, signature.inputs, graph.inputs),
        _in_order(note.outputs, signature.outputs, graph.outputs),
    )
    buffer = schema.BufferT(data=list(build(ordered)))
    entries = model.metadata or []
    old = next((entry for entry in entries if _text(entry.name) == ENTRY), None)
    if old is not None:
        model.buffers[old.buffer] = buffer
    else:
        model.buffers.append(buffer)
        model.metadata = [*entries, schema.MetadataT(name=ENTRY, buffer=len(model.buffers) - 1)]
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def build(note: ModelNote) -> bytes:
    """The metadata alone: a flatbuffer of type ModelMetadata."""
    import flatbuffers

    builder = flatbuffers.Builder(1024)
    inputs, outputs = (
        _offsets(builder, [_tensor(builder, item) for item in notes]) for notes in (note.inputs, note.outputs)
    )
    # SubGraphMetadata: name 0, description 1, input_tensor_metadata 2, output_tensor_metadata 3, ...
    graph = _table(builder, 7, {2: inputs, 3: outputs})
    name, description, version = (builder.CreateString(text) for text in (note.name, note.description, PARSER_VERSION))
    # ModelMetadata: name 0, description 1, version 2, subgraph_metadata 3, ..., min_parser_version 7
    root = _table(builder, 8, {0: name, 1: description, 3: _offsets(builder, [graph]), 7: version})
    builder.Finish(root, file_identifier=IDENTIFIER)
    return bytes(builder.Output())


def _pixels(name: str, channels: str) -> TensorNote:
    text = f"image: {channels} pixels, 0 to 255, as they are"
    return TensorNote(name, text, channels, (0.0,), (1.0,), (0.0,), (255.0,))


def _normalised(name: str, channels: str, mean: tuple[float, ...], std: tuple[float, ...]) -> TensorNote:
    low, high = (tuple((value - m) / s for m, s in zip(mean, std, strict=True)) for value in (0.0, 255.0))
    text = f"image: {channels}, (pixel - mean) / std" if mean else f"image: {channels}, normalised"
    return TensorNote(name, text, channels, mean, std, low, high)


def _in_order(notes: Sequence[TensorNote], named: Any, indices: Sequence[int]) -> tuple[TensorNote, ...]:
    """The notes in the order of the graph's tensors, by way of the signature that names them."""
    names = {int(item.tensorIndex): _text(item.name) for item in named}
    by_name = {note.name: note for note in notes}
    return tuple(by_name[names[int(index)]] for index in indices)


def _tensor(builder: flatbuffers.Builder, note: TensorNote) -> int:
    """TensorMetadata: name 0, description 1, dimension_names 2, content 3, process_units 4, stats 5, ..."""
    slots = {0: builder.CreateString(note.name)}
    if note.description:
        slots[1] = builder.CreateString(note.description)
    slots[3] = _content(builder, note)
    if note.mean:
        # NormalizationOptions: mean 0, std 1. ProcessUnit: options 1, and the member of the union it is 0.
        values = _table(builder, 2, {0: _floats(builder, note.mean), 1: _floats(builder, note.std)})
        slots[4] = _offsets(builder, [_table(builder, 2, {1: values}, {0: _NORMALIZATION})])
    if note.low:
        # Stats: max 0, min 1.
        slots[5] = _table(builder, 2, {0: _floats(builder, note.high), 1: _floats(builder, note.low)})
    return _table(builder, 7, slots)


def _content(builder: flatbuffers.Builder, note: TensorNote) -> int:
    """Content: content_properties 1, and the member of the union it is 0; range 2."""
    if not note.channels:
        return _table(builder, 3, {1: _table(builder, 0, {})}, {0: _FEATURE})
    # ImageProperties: color_space 0, default_size 1. The schema knows no BGR; the description names it.
    colours = {0: _RGB} if note.channels == "RGB" else {}
    return _table(builder, 3, {1: _table(builder, 2, {}, colours)}, {0: _IMAGE})


def _table(
    builder: flatbuffers.Builder, slots: int, offsets: Mapping[int, int], small: Mapping[int, int] | None = None
) -> int:
    """A table of so many fields: slot -> offset of what was built before, and slot -> enumerator of one byte."""
    builder.StartObject(slots)
    for slot, offset in offsets.items():
        builder.PrependUOffsetTRelativeSlot(slot, offset, 0)
    for slot, value in (small or {}).items():
        builder.PrependUint8Slot(slot, value, _UNKNOWN)
    return int(builder.EndObject())


def _offsets(builder: flatbuffers.Builder, items: Sequence[int]) -> int:
    return _vector(builder, items, builder.PrependUOffsetTRelative)


def _floats(builder: flatbuffers.Builder, items: Sequence[float]) -> int:
    return _vector(builder, items, builder.PrependFloat32)


def _vector(builder: flatbuffers.Builder, items: Sequence[Any], prepend: Callable[[Any], None]) -> int:
    """A vector of four-byte items, written from its end."""
    builder.StartVector(4, len(items), 4)
    for item in reversed(items):
        prepend(item)
    return int(builder.EndVector())


def _text(name: bytes | str) -> str:
    return name.decode() if isinstance(name, bytes) else name
