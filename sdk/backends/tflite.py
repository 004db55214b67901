"""TFLite through LiteRT (``ai_edge_litert``), or its predecessor ``tflite_runtime`` where only that is installed."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from pocketface.sdk.backends.base import Tensor, Tensors, checked_input, checked_names, feed, from_file, read_model
from pocketface.sdk.backends.delegates import AUTO, checked_delegate
from pocketface.sdk.errors import BundleError, EnvironmentProblemError, MissingExtraError
from pocketface.sdk.manifest import Variant

# package of the interpreter -> (its distribution, the runtime's own name)
_RUNTIMES = {"ai_edge_litert": ("ai-edge-litert", "LiteRT"), "tflite_runtime": ("tflite-runtime", "TFLite")}

# What the interpreter raises over a file that it cannot use; a name in it that is no text is a ValueError, too.
_BROKEN = (RuntimeError, ValueError, MemoryError)

_LIBRARIES = (".so", ".dylib", ".dll")


class TfliteBackend:
    """One variant in an interpreter, with XNNPACK, as it is by default.

    ``delegate`` is ``xnnpack`` (as ``auto``), ``cpu`` for the interpreter's own kernels without XNNPACK, or the path of
    an external delegate's library, as a vendor ships one for its accelerator. What a delegate cannot compute stays with
    the interpreter.

    Tensors are found by their names in the file's signature; in a file without one, by the tensors' own names.
    """

    def __init__(self, path: Path, variant: Variant, *, threads: int = 1, delegate: str = AUTO) -> None:
        package = next((name for name in _RUNTIMES if find_spec(name) is not None), None)
        if package is None:
            raise MissingExtraError("running TFLite", "tflite")
        module = importlib.import_module(f"{package}.interpreter")
        distribution, runtime = _RUNTIMES[package]
        self.executor = runtime
        with contextlib.suppress(PackageNotFoundError):
            self.executor = f"{runtime} {version(distribution)}"
        more = _delegated(module, delegate, self.executor)
        if delegate != AUTO:
            self.executor += f" ({Path(delegate).name})"
        self._variant, self._path = variant, path
        data = read_model(path, variant)  # from memory: these bytes are the ones that were hashed
        try:
            self._interpreter = module.Interpreter(model_content=data, num_threads=threads, **more)
            self._interpreter.allocate_tensors()
            self._bind()
        except _BROKEN as error:
            raise _refused(path, error) from error

    def _bind(self) -> None:
        """Find the tensors that the bindings name."""
        variant, path = self._variant, self._path
        self._runner: Any = None
        names = {binding.tensor for binding in variant.inputs.values()}
        for key, signature in self._interpreter.get_signature_list().items():
            if names == set(signature["inputs"]):
                self._runner = self._interpreter.get_signature_runner(key)
                checked_names(variant.outputs, set(signature["outputs"]), "output", path)
                self._check_inputs(self._runner.get_input_details())
                return
        self._inputs = {item["name"]: item["index"] for item in self._interpreter.get_input_details()}
        self._outputs = {item["name"]: item["index"] for item in self._interpreter.get_output_details()}
        checked_names(variant.inputs, set(self._inputs), "input", path)
        checked_names(variant.outputs, set(self._outputs), "output", path)
        self._check_inputs({item["name"]: item for item in self._interpreter.get_input_details()})

    def _check_inputs(self, found: Mapping[str, Mapping[str, Any]]) -> None:
        """The interpreter would resize an input of another shape, and run."""
        for name, binding in self._variant.inputs.items():
            item = found[binding.tensor]
            shape = [int(side) for side in item["shape"]]
            checked_input(name, binding, shape, np.dtype(item["dtype"]).name, self._path)

    @classmethod
    def available(cls) -> bool:
        return any(find_spec(name) is not None for name in _RUNTIMES)

    def run(self, inputs: Mapping[str, Tensor]) -> Tensors:
        tensors = feed(inputs, self._variant)
        bindings = self._variant.outputs
        try:
            if self._runner is not None:
                found = self._runner(**tensors)
                values = {name: np.asarray(found[binding.tensor]) for name, binding in bindings.items()}
            else:
                for name, value in tensors.items():
                    self._interpreter.set_tensor(self._inputs[name], value)
                self._interpreter.invoke()
                values = {
                    name: self._interpreter.get_tensor(self._outputs[binding.tensor])
                    for name, binding in bindings.items()
                }
        except _BROKEN as error:
            raise _refused(self._path, error) from error
        return {name: from_file(value, name, bindings[name]) for name, value in values.items()}


def _delegated(module: Any, delegate: str, runtime: str) -> dict[str, Any]:
    """What the interpreter is told beyond its file and threads.

    Raises:
        EnvironmentProblemError: no such delegate, or its library cannot be loaded.
    """
    if not isinstance(delegate, str) or Path(delegate).suffix not in _LIBRARIES:
        chosen = checked_delegate(delegate, ("cpu", "xnnpack", "the path of a delegate's library"), runtime)
        plain = module.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES if chosen == "cpu" else None
        return {} if plain is None else {"experimental_op_resolver_type": plain}
    try:
        return {"experimental_delegates": [module.load_delegate(delegate)]}
    except (ValueError, OSError) as error:
        raise EnvironmentProblemError(
            f"{runtime} cannot load the delegate {delegate} ({error})",
            expected="the library of a TFLite delegate",
            next="Check the path, and that it was built for this machine",
        ) from error


def _refused(path: Path, error: Exception) -> BundleError:
    first = (str(error).strip() or type(error).__name__).splitlines()[0]
    return BundleError(
        f"{path.name}: the runtime refuses it ({first})", next="Use another variant, or build the bundle again"
    )
