"""ExecuTorch through its own Python runtime, with the XNNPACK delegate.

That runtime takes and gives torch tensors and loads torch by itself, here alone in the SDK. XNNPACK's threads belong to
the whole process: they are set anew when a variant asks for another number, and every program that is loaded is loaded
again before its next run, as it still points at the threads it began with. Variants with the same number of threads
never notice. Runs of different variants wait for each other.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import threading
import warnings
import weakref
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pocketface.sdk.backends.base import Tensor, Tensors, checked_names, feed, from_file, read_model
from pocketface.sdk.backends.delegates import AUTO, checked_delegate
from pocketface.sdk.errors import BadInputError, BundleError, MissingExtraError
from pocketface.sdk.manifest import Binding, Variant

_METHOD = "forward"
# ScalarType of executorch's runtime -> numpy's name.
_DTYPES = {0: "uint8", 1: "int8", 5: "float16", 6: "float32"}

_LOCK = threading.RLock()
_LOADED: weakref.WeakSet[ExecutorchBackend] = weakref.WeakSet()


class ExecutorchBackend:
    """One variant's ``forward``. Its tensors have no names: a binding's ``tensor`` is the place, ``"0"``, ``"1"``.

    Which delegate runs it was decided when the file was made: ``auto`` is the only choice.
    """

    def __init__(self, path: Path, variant: Variant, *, threads: int = 1, delegate: str = AUTO) -> None:
        if find_spec("executorch") is None:
            raise MissingExtraError("running ExecuTorch", "executorch")
        if threads < 1:
            raise BadInputError(f"threads {threads}", expected="1 or more")
        checked_delegate(delegate, (), "ExecuTorch, whose files hold their delegate,")
        self.executor = f"ExecuTorch {version('executorch')} (XNNPACK)"
        self._path, self._variant, self._threads = path, variant, threads
        self._data = read_model(path, variant)  # from memory: these bytes are the ones that were hashed
        self._program: Any = None
        self._method: Any = None
        with _LOCK:
            meta = self._loaded().metadata
        self._inputs = _tensors(meta.num_inputs(), meta.input_tensor_meta)
        outputs = _tensors(meta.num_outputs(), meta.output_tensor_meta)
        for kind, bindings, found in (("input", variant.inputs, self._inputs), ("output", variant.outputs, outputs)):
            checked_names(bindings, set(found), kind, path)
            for name, binding in bindings.items():
                _check(path, kind, name, binding, found[binding.tensor])
        if len(self._inputs) != len(variant.inputs):
            raise BundleError(
                f"{path.name} takes {len(self._inputs)} inputs, its bindings name {len(variant.inputs)}",
                next="Build the bundle again",
            )

    @classmethod
    def available(cls) -> bool:
        return find_spec("executorch") is not None

    def run(self, inputs: Mapping[str, Tensor]) -> Tensors:
        fed = feed(inputs, self._variant)
        torch = sys.modules["torch"]  # executorch's runtime brought it
        # It warns of arrays that it may not write to.
        values = [fed[place] if fed[place].flags.writeable else fed[place].copy() for place in self._inputs]
        with _LOCK:
            method = self._loaded()
            try:
                given = method.execute([torch.from_numpy(value) for value in values])
            except (RuntimeError, MemoryError) as error:
                raise _refused(self._path, str(error)) from error
        return {
            name: from_file(given[int(binding.tensor)].numpy(), name, binding)
            for name, binding in self._variant.outputs.items()
        }

    def _loaded(self) -> Any:
        """The method, with as many threads as were asked for. Under the lock."""
        said: list[str] = []
        if self._method is not None and _pool().threads() == self._threads:
            return self._method
        try:
            with _quiet([]):
                from executorch.runtime import Runtime

                _pool().resize(self._threads)
            with _quiet(said):
                # The method's memory is the program's: both have to live.
                self._program = Runtime.get().load_program(self._data)
                self._method = self._program.load_method(_METHOD)
        except KeyError as error:
            raise _refused(self._path, f"no method {_METHOD!r}") from error
        except (RuntimeError, MemoryError) as error:
            # What went wrong is printed; the exception has a number.
            raise _refused(self._path, "; ".join([*said, str(error)])) from error
        _LOADED.add(self)
        return self._method

    def _unload(self) -> None:
        self._method = self._program = None


class _Pool:
    """XNNPACK's threads of this process."""

    def __init__(self) -> None:
        with _quiet([]):
            from executorch.extension.pybindings import portable_lib
        self._library = portable_lib

    def threads(self) -> int:
        return int(self._library._threadpool_get_thread_count())

    def resize(self, count: int) -> None:
        """Nothing may run meanwhile; no program may be used afterwards that was loaded before."""
        if self.threads() != count:
            for backend in list(_LOADED):
                backend._unload()
            _LOADED.clear()
            self._library._unsafe_reset_threadpool(count)


_POOL: list[_Pool] = []


def _pool() -> _Pool:
    if not _POOL:
        _POOL.append(_Pool())
    return _POOL[0]


def _tensors(count: int, meta: Any) -> dict[str, Any]:
    return {str(place): meta(place) for place in range(count)}


def _check(path: Path, kind: str, name: str, binding: Binding, found: Any) -> None:
    shape, dtype = tuple(found.sizes()), _DTYPES.get(found.dtype(), f"type {found.dtype()}")
    if (shape, dtype) != (binding.shape, binding.dtype):
        raise BundleError(
            f"{path.name}: {kind} {name!r} is {dtype} {shape}",
            expected=f"{binding.dtype} {binding.shape}",
            next="Build the bundle again",
        )


def _refused(path: Path, reason: str) -> BundleError:
    return BundleError(
        f"{path.name}: ExecuTorch refuses it ({reason})", next="Use another variant, or build the bundle again"
    )


class _Stream:
    """Stands in for ``sys.stderr``. What an import makes of it outlives the block, and then writes where it should."""

    def __init__(self, target: Any) -> None:
        self.target = target

    def __getattr__(self, name: str) -> Any:
        return getattr(self.target, name)


@contextlib.contextmanager
def _quiet(said: list[str]) -> Iterator[None]:
    """Keep what the runtime prints while it loads (of the CPU, of its threads, of being experimental) from the
    terminal; ``said`` gets the lines if the block fails.

    It prints to the file descriptor and to Python's stream.
    """
    original = sys.stderr
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if original is not None:
            original.flush()
        stand_in = _Stream(file)
        saved = os.dup(2)
        os.dup2(file.fileno(), 2)
        sys.stderr = stand_in
        try:
            yield
        except BaseException:
            file.flush()
            file.seek(0)
            lines = [line.strip() for line in file.read().splitlines() if line.strip()]
            said += [(line.partition("] ")[2] or line).rstrip(".") for line in lines][-3:]
            raise
        finally:
            sys.stderr, stand_in.target = original, original
            os.dup2(saved, 2)
            os.close(saved)


__all__ = ["ExecutorchBackend"]
