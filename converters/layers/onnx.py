"""ONNX: every tensor becomes an output of the graph, run in onnxruntime with its optimisations off.

Optimised, onnxruntime fuses operations and changes layouts, so intermediate tensors would not exist, and its numbers
may differ in the last digits; what is traced here is what the file says.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketface.converters.layers.base import Inputs, Trace, TracedTensor
from pocketface.converters.module_paths import onnx_path
from pocketface.sdk.backends.base import feed, read_model
from pocketface.sdk.errors import BundleError
from pocketface.sdk.manifest import Variant


class OnnxTracer:
    """Needs the onnx package besides onnxruntime."""

    format = "onnx"

    def trace(self, path: Path, variant: Variant, inputs: Inputs) -> Trace:
        import onnx
        import onnxruntime

        data = read_model(path, variant)
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        try:
            model = onnx.load_model_from_string(data)
            have = {output.name for output in model.graph.output}
            nodes = list(model.graph.node)
            names = [name for node in nodes for name in node.output if name]
            model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in have)
            session = onnxruntime.InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
            values = dict(zip(names, session.run(names, feed(inputs, variant)), strict=True))
        except Exception as error:  # onnxruntime's own exceptions have no common base; the cause is chained
            first = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise BundleError(
                f"{path.name}: onnxruntime refuses it with every tensor as an output ({first})",
                next="Verify it without --layers",
            ) from error
        constants = {tensor.name: tensor for tensor in model.graph.initializer}
        scales = _scales(nodes, constants)
        found = []
        for node in nodes:
            read = tuple(name for name in node.input if name and name not in constants)
            for name in node.output:
                value = values.get(name)
                if value is None or not np.issubdtype(np.asarray(value).dtype, np.number):
                    continue
                found.append(
                    TracedTensor(
                        name,
                        onnx_path(node.name),
                        node.op_type,
                        np.asarray(value, np.float32),
                        np.asarray(value).dtype.name,
                        scale=scales.get(name),
                        inputs=read,
                    )
                )
        return Trace(
            f"onnxruntime {onnxruntime.__version__}, optimisations off",
            tuple(found),
            {name: binding.tensor for name, binding in variant.outputs.items()},
        )


def _scales(nodes: list[Any], constants: dict[str, Any]) -> dict[str, float]:
    """Tensor -> the step of the QuantizeLinear that reads it, where that is one constant."""
    from onnx import numpy_helper

    scales = {}
    for node in nodes:
        if node.op_type == "QuantizeLinear" and node.input[1] in constants:
            scale: NDArray[Any] = numpy_helper.to_array(constants[node.input[1]])
            if scale.size == 1:
                scales[node.input[0]] = float(scale.reshape(()))
    return scales


TRACER = OnnxTracer()
