"""Whether the tensors at a model file's border are those its bindings name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pocketface.converters.readers.base import Signature, TensorInfo
from pocketface.converters.readers.registry import read_signature
from pocketface.sdk.manifest import Binding

__all__ = ["Signature", "TensorInfo", "check_signature", "read_signature"]


def check_signature(
    found: Signature, inputs: Mapping[str, Binding], outputs: Mapping[str, Binding], unused: Sequence[str] = ()
) -> list[str]:
    """Every difference between a file's tensors and its bindings, in words; empty if there is none.

    Tensors that no binding names count too: an app could not know what to feed or expect. Outputs that are known to be
    ``unused`` do not.
    """
    problems: list[str] = []
    for kind, tensors, bindings in (("input", found.inputs, inputs), ("output", found.outputs, outputs)):
        for name, binding in bindings.items():
            tensor = tensors.get(binding.tensor)
            if tensor is None:
                known = ", ".join(sorted(tensors)) or "none"
                problems.append(f"{kind} {name!r} should be tensor {binding.tensor!r}, the file has {known}")
            elif tensor.shape != binding.shape or tensor.dtype != binding.dtype:
                want = TensorInfo(binding.shape, binding.dtype)
                problems.append(f"{kind} {name!r} is {tensor} in the file, {want} in its binding")
        known_unused = set(unused) if kind == "output" else set()
        for extra in sorted(set(tensors) - {binding.tensor for binding in bindings.values()} - known_unused):
            problems.append(f"{kind} {extra!r} of the file is in no binding")
    return problems
