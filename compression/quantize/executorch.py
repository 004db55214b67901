"""ExecuTorch with int8 weights and activations, through PT2E and XNNPACK's own quantizer.

Weights are symmetric per output channel; activation ranges come from calibration images. It is the torch network that
is quantized, as a ``.pte`` cannot be changed any more.

The heads quantize what they read anew for each image and give float32: XNNPACK's dynamic quantization, the nearest to
"int8 weights, float32 arithmetic" that ExecuTorch has. For the same reason there is no ``executorch.w8``: XNNPACK has
no convolution of float32 activations with int8 weights, and ExecuTorch would expand the weights at every run, outside
of the delegate.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from pocketface.compression.quantize.base import Calibration, Quantizer, StaticConfig, check_modules, under
from pocketface.compression.quantize.inputs import feeds
from pocketface.converters.formats.executorch import check_installed, lower
from pocketface.converters.formats.interface import interface_of

_SMALLEST_STEP = 2**-16
"""Of weights and activations. ExecuTorch's own bound, 2 ** -12, rounds away small weights; without a bound the bias of
a channel that is all zero would overflow its int32."""

_RELU6 = (
    torch.ops.aten.hardtanh.default,
    torch.ops.aten.hardtanh_.default,
    torch.ops.aten.relu6.default,
    torch.ops.aten.relu6_.default,
)
_KEY = "quantization_annotation"
_ZERO = ("constant", 0, None)  # mode of aten.pad, value of constant_pad_nd
_PADS = (torch.ops.aten.pad.default, torch.ops.aten.constant_pad_nd.default)
_WEIGHTED = (nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


class ExecutorchStaticConfig(StaticConfig, frozen=True, kw_only=True):
    """Weights and activations in 8 bits.

    Attributes:
        weights_only: modules whose results are float32, on int8 weights and inputs that are quantized anew for each
            image.
    """


def _quantize(net: nn.Module, path: Path, calibration: Calibration, config: ExecutorchStaticConfig) -> None:
    check_installed()
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    known = sorted(name for name, module in net.named_modules() if isinstance(module, _WEIGHTED))
    check_modules(config.keep_float, known, "keep_float")
    heads = config.weights_only or ()
    check_modules(heads, known, "weights_only")
    _, interface = interface_of(net, calibration.shape[-1])
    shapes = {name: tuple(value.shape) for name, value in interface.inputs.items()}
    graph = torch.export.export(net, interface.args).module()
    prepared = prepare_pt2e(graph, _quantizer(graph, config))
    with torch.no_grad():
        for feed in feeds(calibration, shapes):
            prepared(*(torch.from_numpy(np.array(feed[name])) for name in shapes))
    lower(torch.export.export(convert_pt2e(prepared), interface.args), path)


def _quantizer(graph: torch.fx.GraphModule, config: StaticConfig) -> Any:
    """XNNPACK's quantizer, told which modules to treat how, and mended where it rounds more than it has to."""
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import XNNPACKQuantizer

    heads = config.weights_only or ()

    def dynamic(node: torch.fx.Node) -> bool:
        # Weights belong to no module here; the operation that reads them decides.
        return node.op != "call_function" or under(_module(node), heads)

    def static(node: torch.fx.Node) -> bool:
        return not under(_module(node), heads)

    chosen = _chosen(graph, config)

    class Mended(XNNPACKQuantizer):
        # The others are for training; batch norm is folded by now.
        SUPPORTED_PATTERNS: ClassVar = [
            pattern for pattern in XNNPACKQuantizer.SUPPORTED_PATTERNS if not pattern.is_qat
        ]

        def _annotate_for_quantization_config(self, model: torch.fx.GraphModule) -> torch.fx.GraphModule:
            self._annotate_all_patterns(model, _dynamic(), dynamic)
            self._annotate_all_patterns(model, _static(config), static)
            for node in model.graph.nodes:
                if node.op == "call_function" and not chosen(node):
                    node.meta.pop(_KEY, None)  # the quantizer annotates a concatenation whatever its filter says
                _fuse_relu6(node)
            return model

        def annotate(self, model: torch.fx.GraphModule) -> torch.fx.GraphModule:
            super().annotate(model)
            for node in model.graph.nodes:
                _pad_integers(node, static)
                if node.target is torch.ops.aten.mean.dim:
                    # It would get the steps of what it averages, which are too coarse for it.
                    node.meta.pop(_KEY, None)
            return model

    return Mended().set_filter_function(chosen)


def _fuse_relu6(node: Any) -> None:
    """Round behind a ReLU6 and not between it and its convolution: the convolution's range is wider, and most of the
    256 steps would be cut off. The quantizer does so for a ReLU by itself.
    """
    from torchao.quantization.pt2e.quantizer import QuantizationAnnotation

    if node.target in _RELU6 and _KEY not in node.meta:
        before = node.args[0]
        found = before.meta.get(_KEY)
        if found is not None and found.output_qspec is not None and len(before.users) == 1:
            node.meta[_KEY] = QuantizationAnnotation(output_qspec=found.output_qspec, _annotated=True)
            found.output_qspec = None


def _pad_integers(node: Any, static: Callable[[Any], bool]) -> None:
    """Let XNNPACK pad 8-bit activations with their zero, which is exact: rounded again behind the pad, they would be
    padded as floats.

    The pad is told to read 8 bits, so that its dequantization is its own. XNNPACK drops that of a pad in front of a
    convolution; shared with an operation that reads floats, this one would be given 8-bit codes for floats.
    """
    from torchao.quantization.pt2e.quantizer import QuantizationAnnotation, SharedQuantizationSpec

    pad: Any = node.args[0] if node.args else None
    if "conv" not in str(node.target) or _KEY not in node.meta or not static(node):
        return
    if getattr(pad, "target", None) not in _PADS or (len(pad.args) > 2 and pad.args[2] not in _ZERO):
        return
    before = pad.args[0]
    padded = before.meta.get(_KEY)
    if padded is not None and padded.output_qspec is not None and not any(pad.args[3:]):
        node.meta[_KEY].input_qspec_map.pop(pad, None)
        pad.meta[_KEY] = QuantizationAnnotation(
            input_qspec_map={before: SharedQuantizationSpec(before)}, _annotated=True
        )


def _chosen(graph: torch.fx.GraphModule, config: StaticConfig) -> Callable[[torch.fx.Node], bool]:
    """Which operations may be quantized: neither those in front of the first convolution, which prepare pixels, nor
    those behind the heads, which put outputs together.
    """
    kept, nodes = config.keep_float, list(graph.graph.nodes)
    first = next((place for place, node in enumerate(nodes) if "conv" in str(node.target)), 0)
    outside = {node.name for node in nodes[:first] if node.op == "call_function"}
    outside |= _behind(graph, (*config.keep_float, *(config.weights_only or ())))
    if config.float_first and nodes and _module(nodes[first]):
        kept = (*kept, _module(nodes[first]))
    return lambda node: node.name not in outside and not under(_module(node), kept)


def _behind(graph: torch.fx.GraphModule, heads: tuple[str, ...]) -> set[str]:
    """Operations between heads that give float32 and the outputs, with no layer in between. In 8 bits they would step
    as coarsely as their largest value asks for: logits of two grids, of which one reaches -24000, in a concatenation.
    """
    found: set[torch.fx.Node] = set()
    for node in graph.graph.nodes:
        of_heads = any(item in found or _gives_float(item, heads) for item in node.all_input_nodes)
        if node.op == "call_function" and of_heads and not _weighted(node):
            found.add(node)
    for node in reversed(graph.graph.nodes):
        # What another layer reads is no output.
        if any(_weighted(user) or (user.op != "output" and user not in found) for user in node.users):
            found.discard(node)
    return {node.name for node in found}


def _gives_float(node: torch.fx.Node, heads: tuple[str, ...]) -> bool:
    return node.op == "call_function" and under(_module(node), heads)


def _weighted(node: torch.fx.Node) -> bool:
    return node.op == "call_function" and ("conv" in str(node.target) or "linear" in str(node.target))


def _module(node: torch.fx.Node) -> str:
    """Module path of an operation."""
    stack = list(node.meta.get("nn_module_stack", {}).values())
    return str(stack[-1][0]).removeprefix("L['self'].") if stack else ""


def _static(config: StaticConfig) -> Any:
    """int8 in, int8 weights, int8 out."""
    from torchao.quantization.pt2e import MinMaxObserver, MovingAverageMinMaxObserver
    from torchao.quantization.pt2e.quantizer import QuantizationConfig

    observer = MinMaxObserver if config.calibration == "minmax" else MovingAverageMinMaxObserver
    activations = _activations(observer.with_args(eps=_SMALLEST_STEP), dynamic=False)
    return QuantizationConfig(activations, activations, _weights(), None, False)


def _dynamic() -> Any:
    """Inputs quantized image by image, int8 weights, float32 out."""
    from torchao.quantization.pt2e import PlaceholderObserver
    from torchao.quantization.pt2e.quantizer import QuantizationConfig

    activations = _activations(PlaceholderObserver.with_args(eps=_SMALLEST_STEP), dynamic=True)
    return QuantizationConfig(activations, None, _weights(), None, False)


def _activations(observer: Any, *, dynamic: bool) -> Any:
    from torchao.quantization.pt2e.quantizer import QuantizationSpec

    return QuantizationSpec(
        dtype=torch.int8,
        quant_min=-128,
        quant_max=127,
        qscheme=torch.per_tensor_affine,
        is_dynamic=dynamic,
        observer_or_fake_quant_ctr=observer,
    )


def _weights() -> Any:
    from torchao.quantization.pt2e import PerChannelMinMaxObserver
    from torchao.quantization.pt2e.quantizer import QuantizationSpec

    return QuantizationSpec(
        dtype=torch.int8,
        quant_min=-127,
        quant_max=127,
        qscheme=torch.per_channel_symmetric,
        ch_axis=0,
        is_dynamic=False,
        observer_or_fake_quant_ctr=PerChannelMinMaxObserver.with_args(eps=_SMALLEST_STEP),
    )


QUANTIZER = Quantizer(
    "executorch.w8a8",
    "executorch",
    "w8a8",
    2,
    ExecutorchStaticConfig,
    _quantize,
    calibrated=True,
    needs_network=True,
)
