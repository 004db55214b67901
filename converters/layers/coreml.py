"""Core ML: every tensor of the MIL program, as the reference executor (converters/mil_reference) computes it.

Never a device's result: what Apple's processors compute between the operations cannot be seen from outside.
"""

from __future__ import annotations

from pathlib import Path

from pocketface.converters.layers.base import Inputs, Trace, TracedTensor
from pocketface.converters.module_paths import coreml_paths
from pocketface.sdk.manifest import Variant


class CoreMLTracer:
    """Needs coremltools to read the package, and no Mac."""

    format = "coreml"

    def trace(self, path: Path, variant: Variant, inputs: Inputs) -> Trace:
        from pocketface.converters.mil_reference.package import Package
        from pocketface.converters.mil_reference.program import read_program
        from pocketface.converters.mil_reference.reference import MilReference

        package = Package(path, variant.files)
        paths = coreml_paths(dict(package.spec().description.metadata.userDefined))
        program = read_program(package)
        read = {
            output: tuple(name for name in operation.refs if name not in program.constants)
            for operation in program.operations
            for output in operation.outputs
        }
        executor = MilReference(path, variant)
        tensors = tuple(
            TracedTensor(
                item.name,
                paths.get(item.name, ""),
                item.operation,
                item.value,
                item.dtype,
                inputs=read.get(item.name),
            )
            for item in executor.trace(inputs)
        )
        outputs = {name: binding.tensor for name, binding in variant.outputs.items()}
        return Trace(executor.executor, tensors, outputs)


TRACER = CoreMLTracer()
