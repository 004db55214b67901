"""ONNX through onnxruntime: on the CPU, or on another of its execution providers where one is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from pocketface.sdk.backends.base import Tensor, Tensors, checked_input, checked_names, feed, from_file, read_model
from pocketface.sdk.backends.delegates import AUTO, checked_delegate
from pocketface.sdk.errors import BundleError, EnvironmentProblemError, PocketfaceError
from pocketface.sdk.manifest import Variant

# onnxruntime's name of a type -> numpy's.
_TYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(uint8)": "uint8",
    "tensor(int8)": "int8",
}


class OnnxBackend:
    """One variant in an onnxruntime session: ``threads`` within an operator, operators one after the other.

    ``delegate`` is an execution provider without its last two words: ``cpu`` (as ``auto``), ``cuda``, ``coreml``,
    ``xnnpack``, whichever the installed onnxruntime has. What a provider cannot compute, onnxruntime gives to the CPU;
    a provider that cannot be set up at all is an error.
    """

    def __init__(self, path: Path, variant: Variant, *, threads: int = 1, delegate: str = AUTO) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise EnvironmentProblemError(
                f"onnxruntime cannot be imported ({error})", next="Install it: pip install onnxruntime"
            ) from error
        self.executor = f"onnxruntime {onnxruntime.__version__}"
        # Azure's provider sends tensors to a server: no delegate of this machine.
        providers = {_short(name): name for name in onnxruntime.get_available_providers() if _short(name) != "azure"}
        chosen = checked_delegate(delegate, sorted(providers), self.executor)
        provider = providers["cpu" if chosen == AUTO else chosen]
        if chosen != AUTO:
            self.executor += f" ({chosen})"
        self._variant = variant
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = 3
        try:
            # From memory: these bytes are the ones that were hashed.
            self._session = onnxruntime.InferenceSession(
                read_model(path, variant), options, providers=list(dict.fromkeys([provider, providers["cpu"]]))
            )
        except PocketfaceError:
            raise
        except Exception as error:  # onnxruntime's own exceptions have no common base
            raise _refused(path, error) from error
        if provider not in self._session.get_providers():
            raise EnvironmentProblemError(
                f"onnxruntime has the delegate {chosen!r} and cannot set it up here",
                next="Install what it needs (drivers, libraries), or take the delegate 'cpu'",
            )
        checked_names(variant.inputs, {item.name for item in self._session.get_inputs()}, "input", path)
        checked_names(variant.outputs, {item.name for item in self._session.get_outputs()}, "output", path)
        found = {item.name: item for item in self._session.get_inputs()}
        for name, binding in variant.inputs.items():
            item = found[binding.tensor]
            checked_input(name, binding, item.shape, _TYPES.get(item.type, item.type), path)
        self._path = path

    @classmethod
    def available(cls) -> bool:
        return find_spec("onnxruntime") is not None

    def run(self, inputs: Mapping[str, Tensor]) -> Tensors:
        outputs = self._variant.outputs
        tensors = feed(inputs, self._variant)
        try:
            values = self._session.run([binding.tensor for binding in outputs.values()], tensors)
        except Exception as error:
            raise _refused(self._path, error) from error
        return {
            name: from_file(value, name, binding)
            for (name, binding), value in zip(outputs.items(), values, strict=True)
        }


def _short(provider: str) -> str:
    """CUDAExecutionProvider -> cuda."""
    return provider.removesuffix("ExecutionProvider").lower()


def _refused(path: Path, error: Exception) -> BundleError:
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return BundleError(
        f"{path.name}: onnxruntime refuses it ({first})", next="Use another variant, or build the bundle again"
    )
