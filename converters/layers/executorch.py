"""ExecuTorch: the event tracer of the runtime, which keeps what each kernel and each delegate gives.

A delegate is one step for it: inside of XNNPACK it times operations but keeps no tensors, and a ``.pte`` names no
modules. So what is compared is what stands outside of delegates and is an output of the network.
"""

from __future__ import annotations

import importlib.metadata
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from pocketface.converters.chatter import chatter_to
from pocketface.converters.layers.base import Inputs, Trace, TracedTensor
from pocketface.sdk.backends.base import feed, read_model
from pocketface.sdk.errors import BundleError, MissingExtraError
from pocketface.sdk.manifest import Variant

_BUFFER = 256 * 2**20
"""Bytes for intermediate tensors, which the runtime asks for ahead."""


class ExecutorchTracer:
    """Needs executorch with its developer tools, as the pip package has them, and torch."""

    format = "executorch"

    def trace(self, path: Path, variant: Variant, inputs: Inputs) -> Trace:
        try:
            with tempfile.TemporaryDirectory() as folder, chatter_to(Path(folder) / "executorch.log"):
                return _trace(path, variant, inputs, Path(folder))
        except ImportError as error:
            raise MissingExtraError("tracing ExecuTorch", "executorch", str(error)) from error
        except (RuntimeError, ValueError) as error:
            first = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise BundleError(
                f"{path.name}: ExecuTorch refuses it ({first})", next="Verify it without --layers"
            ) from error


def _trace(path: Path, variant: Variant, inputs: Inputs, folder: Path) -> Trace:
    import torch
    from executorch.extension.pybindings import portable_lib

    data = read_model(path, variant)
    module = portable_lib._load_for_executorch_from_buffer(data, enable_etdump=True, debug_buffer_size=_BUFFER)
    fed = feed(inputs, variant)
    # The program has no names: its inputs stand in the order of the contract's.
    given = module.forward([torch.from_numpy(fed[binding.tensor]) for binding in variant.inputs.values()])
    dump, debug = folder / "run.etdump", folder / "run.debug"
    module.write_etdump_result_to_file(str(dump), str(debug))
    tensors, notes = _kernels(dump, debug)
    # The outputs once more, under their names, with nothing known of what they read.
    names = dict(zip(variant.outputs, given, strict=True))
    tensors += [_tensor(name, "output", value) for name, value in names.items()]
    return Trace(
        f"executorch {importlib.metadata.version('executorch')}, with its event tracer",
        tuple(tensors),
        {name: name for name in names},
        (*notes, "a .pte names no modules: its outputs are compared"),
    )


def _kernels(dump: Path, debug: Path) -> tuple[list[TracedTensor], list[str]]:
    """What the event tracer kept of each kernel and delegate, and what to know about it."""
    import torch
    from executorch.devtools import Inspector

    try:
        blocks = Inspector(etdump_path=str(dump), debug_buffer_path=str(debug)).event_blocks
    except TypeError as error:
        # executorch 1.5.1 writes dumps (of fp16 programs) that its own reader refuses: an allocator without a name.
        return [], [f"executorch's inspector cannot read its own dump ({error}), so that no kernel was compared"]
    tensors, delegates = [], 0
    for block in blocks:
        for number, event in enumerate(block.events):
            kernel = event.name.startswith("native_call_")  # each is listed again as an OPERATOR_CALL
            delegates += event.name == "DELEGATE_CALL"
            if kernel or event.name == "DELEGATE_CALL":
                for value in event.debug_data or ():
                    if isinstance(value, torch.Tensor) and value.numel():
                        name = event.name.removeprefix("native_call_")
                        tensors.append(_tensor(f"{block.name}.{number}", name, value))
    return tensors, [f"{delegates} delegate calls are opaque"] if delegates else []


def _tensor(name: str, operation: str, value: Any) -> TracedTensor:
    array = np.asarray(value.detach().numpy())
    return TracedTensor(name, "", operation, np.array(array, np.float32), array.dtype.name)


TRACER = ExecutorchTracer()
