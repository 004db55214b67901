"""``.pte`` files without our backend and reader: through executorch's own runtime and its own deserializers."""

from __future__ import annotations

import functools
import json
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from pocketface.converters.chatter import chatter_to


@functools.cache
def method(path: Path) -> Callable[..., list[NDArray[Any]]]:
    """``forward`` of a file: arrays in, arrays out, in the file's order."""
    import torch

    with tempfile.TemporaryDirectory() as folder, chatter_to(Path(folder) / "log"):
        from executorch.runtime import Runtime

        program = Runtime.get().load_program(path.read_bytes())
        forward = program.load_method("forward")

    def run(*values: NDArray[Any]) -> list[NDArray[Any]]:
        assert program is not None  # it owns the method's memory
        return [value.numpy() for value in forward.execute([torch.from_numpy(value.copy()) for value in values])]

    return run


@functools.cache
def deserialized(path: Path) -> tuple[Any, list[dict[str, Any]]]:
    """The program, and the graph of each of its delegates as its schema has it."""
    with tempfile.TemporaryDirectory() as folder, chatter_to(Path(folder) / "log"):
        from executorch.backends.xnnpack.serialization import xnnpack_graph_serialize
        from executorch.exir._serialize import _deserialize_pte_binary
        from executorch.exir._serialize._flatbuffer import _flatc_decompile

        program = _deserialize_pte_binary(path.read_bytes()).program
        graphs = []
        for delegate in program.execution_plan[0].delegates:
            data = program.backend_delegate_data[delegate.processed.index].data
            header = xnnpack_graph_serialize.XNNHeader.from_bytes(data[:30])
            (Path(folder) / "schema.fbs").write_bytes(xnnpack_graph_serialize._get_schema_bytes())
            buffer = Path(folder) / "graph.bin"
            buffer.write_bytes(data[header.flatbuffer_offset : header.flatbuffer_offset + header.flatbuffer_size])
            _flatc_decompile(folder, str(Path(folder) / "schema.fbs"), str(buffer), ["--raw-binary"])
            text = re.sub(r"\binf\b", "Infinity", (Path(folder) / "graph.json").read_text())
            graphs.append(json.loads(text))
    return program, graphs
