"""ONNX through onnxruntime, on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from pocketface.sdk.backends.base import Tensor, Tensors, checked_names, feed, from_file, read_model
from pocketface.sdk.errors import BundleError, EnvironmentProblemError, PocketfaceError
from pocketface.sdk.manifest import Variant


class OnnxBackend:
    """One variant in an onnxruntime session: ``threads`` within an operator, operators one after the other."""

    def __init__(self, path: Path, variant: Variant, *, threads: int = 1) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise EnvironmentProblemError(
                f"onnxruntime cannot be imported ({error})", next="Install it: pip install onnxruntime"
            ) from error
        self.executor = f"onnxruntime {onnxruntime.__version__}"
        self._variant = variant
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = 3
        try:
            # From memory: these bytes are the ones that were hashed.
            self._session = onnxruntime.InferenceSession(
                read_model(path, variant), options, providers=["CPUExecutionProvider"]
            )
        except PocketfaceError:
            raise
        except Exception as error:  # onnxruntime's own exceptions have no common base
            raise _refused(path, error) from error
        checked_names(variant.inputs, {item.name for item in self._session.get_inputs()}, "input", path)
        checked_names(variant.outputs, {item.name for item in self._session.get_outputs()}, "output", path)
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


def _refused(path: Path, error: Exception) -> BundleError:
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return BundleError(
        f"{path.name}: onnxruntime refuses it ({first})", next="Use another variant, or build the bundle again"
    )
