"""ExecuTorch: the program and what its XNNPACK delegates hold, through the schemas and the flatbuffer compiler that the
executorch package ships. Nothing of it is imported, so reading needs no torch.

Inputs and outputs have no names: they are called after their place, ``"0"``, ``"1"``. Operations inside a delegate are
listed as XNNPACK's own (``XNNConv2d``), those outside by their kernel (``aten::mean.out``); another vendor's delegate
is one operation, as nothing here can look inside. The file holds no paths of modules.

An operation that quantizes its float input anew for each image and gives float32 on int8 weights has the type of what
it gives.
"""

from __future__ import annotations

import json
import re
import shutil
import struct
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from math import prod
from pathlib import Path
from typing import Any

from pocketface.converters.readers.base import Contents, Operation, Signature, TensorInfo
from pocketface.sdk.errors import MissingExtraError

_PROGRAM = "exir/_serialize/program.fbs"
_XNNPACK = "backends/xnnpack/serialization/schema.fbs"
_METHOD = "forward"

# ScalarType of program.fbs -> numpy's name.
_SCALARS = {
    "BYTE": "uint8",
    "CHAR": "int8",
    "SHORT": "int16",
    "INT": "int32",
    "LONG": "int64",
    "HALF": "float16",
    "FLOAT": "float32",
    "DOUBLE": "float64",
    "BOOL": "bool",
    "BFLOAT16": "bfloat16",
}
# XNNDatatype of XNNPACK's schema -> numpy's name. The letters before "int" say how scales are kept.
_XNN = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16", "pfp32": "float32", "quint8": "uint8"}
_INTEGER = re.compile(r"q?[a-z]?(int\d+)")
# What JSON calls Infinity and NaN; flatc writes them as C does.
_NUMBER = re.compile(r"(?<=[\[:, ])([+-]?)(inf|nan)(?=[,\s\]}])")


class ExecutorchReader:
    """Reads ``.pte`` files."""

    format = "executorch"

    def signature(self, path: Path) -> Signature:
        return _File(path.read_bytes()).signature()

    def contents(self, path: Path) -> Contents:
        file = _File(path.read_bytes())
        operations = tuple(file.operations())
        return Contents(file.signature(), operations, dict(file.weights), f"ExecuTorch {file.identifier}")


class _File:
    """A parsed program.

    Attributes:
        identifier: of the schema.
        weights: filled while ``operations`` is gone through.
    """

    def __init__(self, data: bytes) -> None:
        self.identifier = data[4:8].decode("ascii", "replace")
        if self.identifier[:2] != "ET":
            raise ValueError(f"it begins with {data[:8]!r}, not with ExecuTorch's identifier")
        self._data = data
        self._base = struct.unpack_from("<Q", data, 24)[0] if data[8:12] == b"eh00" else 0
        self._program = parsed(_PROGRAM, data)
        plans = {plan["name"]: plan for plan in self._program["execution_plan"]}
        if _METHOD not in plans:
            raise ValueError(f"it has no method {_METHOD!r}, but {', '.join(plans) or 'none'}")
        self._plan = plans[_METHOD]
        self._counted: set[object] = set()
        self.weights: Counter[str] = Counter()

    def signature(self) -> Signature:
        return Signature(
            *(
                {str(place): self._tensor(index) for place, index in enumerate(self._plan[kind])}
                for kind in ("inputs", "outputs")
            )
        )

    def operations(self) -> Iterator[Operation]:
        for chain in self._plan["chains"]:
            for instruction in chain["instructions"]:
                call = instruction["instr_args"]
                if instruction["instr_args_type"] == "KernelCall":
                    yield self._kernel(call)
                elif instruction["instr_args_type"] == "DelegateCall":
                    yield from self._delegate(call)

    def _tensor(self, index: int) -> TensorInfo:
        value = self._plan["values"][index]
        if value["val_type"] != "Tensor":
            raise ValueError(f"value {index} at its border is a {value['val_type']}, not a tensor")
        tensor = value["val"]
        dtype = _SCALARS.get(tensor["scalar_type"], tensor["scalar_type"])
        # Its sizes are upper bounds then, and nothing says which of them are fixed.
        dynamic = tensor["shape_dynamism"] != "STATIC"
        return TensorInfo(tuple(-1 if dynamic else side for side in tensor["sizes"]), dtype)

    def _tensors(self, places: list[int]) -> Iterator[tuple[int, dict[str, Any]]]:
        """Tensors among these values, each once, in order."""
        for index in dict.fromkeys(places):
            value = self._plan["values"][index]
            if value["val_type"] == "Tensor":
                yield index, value["val"]
            elif value["val_type"] in ("TensorList", "OptionalTensorList"):
                yield from self._tensors([item for item in value["val"]["items"] if item >= 0])

    def _kernel(self, call: Mapping[str, Any]) -> Operation:
        operator = self._plan["operators"][call["op_index"]]
        kind = f"{operator['name']}.{operator['overload']}" if operator["overload"] else operator["name"]
        found = list(self._tensors(call["args"]))
        stored = ""
        activations = []
        for index, tensor in found:
            dtype = _SCALARS.get(tensor["scalar_type"], tensor["scalar_type"])
            if tensor["data_buffer_idx"] > 0 and tensor.get("allocation_info") is None:
                if dtype not in ("int32", "int64", "bool"):
                    stored = stored or dtype
                    self._count(("program", tensor["data_buffer_idx"]), dtype, tensor["sizes"])
            else:
                activations.append((index, dtype))
        # The results come last among a kernel's arguments.
        last = activations[-1:] or [(-1, "")]
        reads = activations[0][1] if activations and kind.split(".")[0] in _CONVERTING else last[0][1]
        compute = reads if reads not in ("int32", "int64", "bool") else ""
        name = f"value{last[0][0]}"
        return Operation(kind, name, "", compute, stored, (name,))

    def _delegate(self, call: Mapping[str, Any]) -> Iterator[Operation]:
        number = call["delegate_index"]
        delegate = self._plan["delegates"][number]
        if delegate["id"] != "XnnpackBackend":
            outputs = [(f"value{index}", tensor) for index, tensor in self._tensors(call["args"])][-1:]
            compute = _SCALARS.get(outputs[0][1]["scalar_type"], "") if outputs else ""
            yield Operation(delegate["id"], f"delegate{number}", "", compute, "", tuple(name for name, _ in outputs))
            return
        graph = parsed(_XNNPACK, _xnnpack_graph(self._payload(delegate["processed"])))
        values = {}
        for value in graph["xvalues"]:
            tensor = value["xvalue_union"]
            tensor = tensor.get("tensor_value", tensor)
            values[tensor["id_out"]] = tensor
        for node in graph["xnodes"]:
            yield self._xnn_node(number, node, values, graph["constant_data"])

    def _xnn_node(
        self, number: int, node: Mapping[str, Any], values: Mapping[int, Any], constants: list[dict[str, Any]]
    ) -> Operation:
        fields = node["xnode_union"]
        kind = node["xnode_union_type"]
        reads, writes, stored = [], [], ""
        for key, index in fields.items():
            if not key.endswith("_id") or index not in values:  # 2 ** 32 - 1 stands for "none"
                continue
            tensor = values[index]
            dtype = _xnn_dtype(tensor["datatype"])
            buffer = tensor["constant_buffer_idx"]
            if key.startswith("output"):
                writes.append((index, dtype))
            elif buffer:
                stored = stored or dtype
                held = constants[buffer]
                self._count((held["named_key"] or (number, buffer)), dtype, tensor["dims"])
            else:
                reads.append(dtype)
        names = tuple(f"xnnpack{number}/{index}" for index, _ in writes)
        compute = reads[0] if kind == "XNNConvert" and reads else writes[0][1] if writes else ""
        return Operation(kind, names[0] if names else "", "", compute, stored, names)

    def _count(self, key: object, dtype: str, sizes: list[int]) -> None:
        """Equal constants are stored once, and counted once."""
        if key not in self._counted:
            self._counted.add(key)
            self.weights[dtype] += prod(sizes)

    def _payload(self, where: Mapping[str, Any]) -> bytes:
        if where["location"] == "INLINE":
            return bytes(self._program["backend_delegate_data"][where["index"]]["data"])
        segment = self._program["segments"][where["index"]]
        start = self._base + segment["offset"]
        return self._data[start : start + segment["size"]]


_CONVERTING = ("dim_order_ops::_to_dim_order_copy", "aten::_to_copy")


def _xnnpack_graph(payload: bytes) -> bytes:
    """The flatbuffer inside a delegate's payload, which has a header of its own."""
    if payload[4:8] != b"XH00":
        return payload
    offset, size = struct.unpack_from("<II", payload, 10)
    return payload[offset : offset + size]


def _xnn_dtype(name: str) -> str:
    short = name.removeprefix("xnn_datatype_")
    whole = _INTEGER.fullmatch(short)
    return _XNN.get(short) or (whole[1] if whole else short)


def parsed(schema: str, data: bytes) -> Any:
    """A flatbuffer as plain values.

    Args:
        schema: path inside the executorch package.
        data: the buffer.

    Raises:
        MissingExtraError: executorch is not installed.
        ValueError: the buffer does not follow the schema.
    """
    found = find_spec("executorch")
    folders = [Path(folder) for folder in (found.submodule_search_locations or ())] if found else []
    folder = next((folder for folder in folders if (folder / schema).is_file()), None)
    compiler = shutil.which("flatc", path=str(folder / "data" / "bin")) if folder else None
    if folder is None or compiler is None:
        raise MissingExtraError("looking into .pte files", "executorch")
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "buffer.bin"
        file.write_bytes(data)
        flags = ["--json", "--strict-json", "--defaults-json", "--raw-binary"]
        command = [compiler, *flags, "-o", place, str(folder / schema), "--", str(file)]
        done = subprocess.run(command, capture_output=True, text=True)
        result = file.with_suffix(".json")
        if done.returncode or not result.exists():  # it does not check: a broken buffer may end it by a signal
            said = (done.stdout + done.stderr).strip().splitlines()
            raise ValueError(f"it does not follow {Path(schema).name}: {said[0] if said else 'flatc gave up'}")
        return json.loads(_NUMBER.sub(_number, result.read_text("utf-8", "replace")))


def _number(match: re.Match[str]) -> str:
    sign = "-" if match[1] == "-" else ""
    return sign + "Infinity" if match[2] == "inf" else "NaN"


READER = ExecutorchReader()
