"""TFLite metadata, decoded by a small reader of its own that follows the schema's field numbers."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_export import SIZE, exported, inputs, pixel_exported, tiny_net, torch_outputs

from pocketface.compression.models.registry import MODELS
from pocketface.converters.formats.interface import interface_of
from pocketface.converters.pixels import PixelInput
from pocketface.converters.tflite_metadata import ModelNote, TensorNote, add_metadata, build, describe


class Table:
    """A flatbuffer table, read with struct alone: a field's place is in the table's vtable, 0 where it is absent."""

    def __init__(self, data: bytes, at: int) -> None:
        self.data, self.at = data, at
        self.vtable = at - struct.unpack_from("<i", data, at)[0]

    def _field(self, slot: int) -> int | None:
        size = struct.unpack_from("<H", self.data, self.vtable)[0]
        place = 4 + 2 * slot
        offset = struct.unpack_from("<H", self.data, self.vtable + place)[0] if place < size else 0
        return self.at + offset if offset else None

    def _target(self, slot: int) -> int | None:
        field = self._field(slot)
        return None if field is None else field + struct.unpack_from("<I", self.data, field)[0]

    def byte(self, slot: int) -> int:
        field = self._field(slot)
        return 0 if field is None else self.data[field]

    def table(self, slot: int) -> Table:
        target = self._target(slot)
        assert target is not None
        return Table(self.data, target)

    def text(self, slot: int) -> str:
        target = self._target(slot)
        if target is None:
            return ""
        length = struct.unpack_from("<I", self.data, target)[0]
        return self.data[target + 4 : target + 4 + length].decode()

    def floats(self, slot: int) -> list[float]:
        target = self._target(slot)
        length = 0 if target is None else struct.unpack_from("<I", self.data, target)[0]
        return list(struct.unpack_from(f"<{length}f", self.data, (target or 0) + 4))

    def tables(self, slot: int) -> list[Table]:
        target = self._target(slot)
        if target is None:
            return []
        places = [target + 4 + 4 * index for index in range(struct.unpack_from("<I", self.data, target)[0])]
        return [Table(self.data, place + struct.unpack_from("<I", self.data, place)[0]) for place in places]


def decode(data: bytes) -> dict[str, Any]:
    """metadata_schema.fbs: ModelMetadata and what hangs below it, by field number."""
    assert data[4:8] == b"M001"
    model = Table(data, struct.unpack_from("<I", data, 0)[0])
    (graph,) = model.tables(3)

    def tensor(item: Table) -> dict[str, Any]:
        content = item.table(3)
        found = {"name": item.text(0), "description": item.text(1), "content": content.byte(0)}
        if content.byte(0) == 2:
            found["colours"] = content.table(1).byte(0)
        for unit in item.tables(4):
            assert unit.byte(0) == 1
            found |= {"mean": unit.table(1).floats(0), "std": unit.table(1).floats(1)}
        if item._field(5) is not None:
            found |= {"max": item.table(5).floats(0), "min": item.table(5).floats(1)}
        return found

    return {
        "name": model.text(0),
        "description": model.text(1),
        "version": model.text(7),
        "inputs": [tensor(item) for item in graph.tables(2)],
        "outputs": [tensor(item) for item in graph.tables(3)],
    }


def metadata_of(path: Path) -> list[bytes]:
    """The metadata entries of a TFLite file."""
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model(str(path))
    names = [entry.name.decode() if isinstance(entry.name, bytes) else entry.name for entry in model.metadata]
    return [
        bytes(model.buffers[entry.buffer].data)
        for name, entry in zip(names, model.metadata, strict=True)
        if name == "TFLITE_METADATA"
    ]


def test_what_is_written_decodes_to_the_same() -> None:
    note = ModelNote(
        "face",
        "finds landmarks",
        (TensorNote("image", "a crop", "RGB", (1.5, 2, 3), (4, 5, 6.25), (-1, -2, -3), (1, 2, 3)), TensorNote("mask")),
        (TensorNote("points", "x and y"),),
    )
    assert decode(build(note)) == {
        "name": "face",
        "description": "finds landmarks",
        "version": "1.0.0",
        "inputs": [
            {
                "name": "image",
                "description": "a crop",
                "content": 2,
                "colours": 1,
                "mean": [1.5, 2, 3],
                "std": [4, 5, 6.25],
                "min": [-1, -2, -3],
                "max": [1, 2, 3],
            },
            {"name": "mask", "description": "", "content": 1},
        ],
        "outputs": [{"name": "points", "description": "x and y", "content": 1}],
    }


def test_a_file_of_pixels_says_to_feed_them_as_they_are() -> None:
    (data,) = metadata_of(pixel_exported("tflite").path)
    found = decode(data)
    (image,) = found["inputs"]
    assert found["name"] == "TinyNet"
    assert (image["name"], image["content"], image["colours"]) == ("image", 2, 1)
    assert (image["mean"], image["std"], image["min"], image["max"]) == ([0], [1], [0], [255])
    assert [item["name"] for item in found["outputs"]] == ["points", "score"]


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_every_precision_has_it_once(precision: str) -> None:
    (data,) = metadata_of(exported("tflite", precision).path)
    (image,) = decode(data)["inputs"]
    assert image["description"] == "image: RGB, normalised"  # the tiny network names no mean


def test_normalised_inputs_say_how() -> None:
    net = MODELS["mobilenetv2"](n_points=68, width=0.35, input_size=32, dropout=0.0).eval()
    (image,) = decode(build(describe(*interface_of(net, 32))))["inputs"]
    assert image["mean"] == pytest.approx(net.mean)
    assert image["std"] == pytest.approx(net.std)
    assert image["min"] == pytest.approx([(0 - m) / s for m, s in zip(net.mean, net.std, strict=True)])
    assert image["max"] == pytest.approx([(255 - m) / s for m, s in zip(net.mean, net.std, strict=True)])


def test_the_schema_has_no_bgr_so_the_description_says_it() -> None:
    net = PixelInput(tiny_net(), (1, 2, 3), (4, 5, 6), "BGR", size=SIZE)
    (image,) = decode(build(describe(*interface_of(net, SIZE))))["inputs"]
    assert image["colours"] == 0
    assert image["description"].startswith("image: BGR pixels")


def test_notes_stand_in_the_order_of_the_graph_and_replace_older_ones(tmp_path: Path) -> None:
    source = exported("tflite").path.read_bytes()
    turned = ModelNote("other", "", (TensorNote("image"),), (TensorNote("score"), TensorNote("points")))
    path = tmp_path / "model.tflite"
    path.write_bytes(add_metadata(source, turned))
    (data,) = metadata_of(path)
    found = decode(data)
    assert (found["name"], [item["name"] for item in found["outputs"]]) == ("other", ["points", "score"])

    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path))
    details = [item["shape"].tolist() for item in interpreter.get_output_details()]
    assert details == [[1, 68, 2], [1]]  # points first: the notes follow the file, not the caller
    image = np.ascontiguousarray(inputs(1).transpose(0, 2, 3, 1))
    given = interpreter.get_signature_runner()(image=image)
    points, score = torch_outputs(inputs(1))
    np.testing.assert_allclose(given["points"], points, atol=1e-5)
    np.testing.assert_allclose(given["score"], score, atol=1e-4)


def test_a_network_of_other_outputs_is_described_by_their_names() -> None:
    class Mask(torch.nn.Module):
        output_names = ("mask",)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x[:, :1]

    note = describe(*interface_of(Mask().eval(), 8))
    assert [item.name for item in note.outputs] == ["mask"]
    assert note.description == "Takes image: RGB, normalised. Gives mask."
