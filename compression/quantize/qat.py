"""Quantization-aware training: a network that rounds while it trains as its 8-bit files will (Jacob et al. 2018,
arXiv:1712.05877, sections 3 and 3.2).

Weights are rounded to int8, symmetric per output channel, with batch norm folded into them; activations to 256 steps
between running averages of their extremes. The gradient passes through the rounding, but for activations beyond the
extremes. It is the network's own tensors that train: nothing of the rounding stays in it, and each format's quantizer
makes its file of it as of any other.

Batch norm's statistics stand still, those of the heads too: behind a trunk whose own stand still, one crop that is no
face can be so far off that it shifts all faces of its batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.func import functional_call
from torch.fx.passes.shape_prop import ShapeProp, TensorMetadata

from pocketface.compression.quantize.base import check_modules, under
from pocketface.converters.options import Options
from pocketface.sdk.errors import ConfigError

TRUNK = "features"
"""What computes in 8 bits: the heads stay in float in every w8a8 file."""

_RELUS = (nn.ReLU, nn.ReLU6)
_SAME_VALUES = (nn.Identity, nn.Dropout, nn.ZeroPad2d, nn.MaxPool2d, nn.Flatten)
"""What gives no value that it did not take but zero: rounded before, exact after."""


class QatConfig(Options, frozen=True, kw_only=True):
    """How the training rounds; what is left in float should be what the recipe's quantizers leave in float.

    Attributes:
        keep_float: modules (``"features.3"``, and all below it) that do not round.
        float_first: the first convolution does not round its weights.
        momentum: weight of a batch in the running averages of extremes, in (0, 1].
    """

    keep_float: tuple[str, ...] = ()
    float_first: bool = True
    momentum: float = 0.01

    def __post_init__(self) -> None:
        if not 0 < self.momentum <= 1:
            raise ConfigError(f"momentum: {self.momentum:g}", expected="a share above 0, at most 1")


@dataclass(frozen=True)
class QatReport:
    """What rounds.

    Attributes:
        weights: modules with int8 weights.
        activations: how many results are rounded.
        float: modules of the trunk with weights that do not round.
    """

    weights: tuple[str, ...]
    activations: int
    float: tuple[str, ...]

    def __str__(self) -> str:
        kept = f"; in float: {', '.join(self.float)}" if self.float else ""
        return f"{len(self.weights)} layers round their weights, {self.activations} their results{kept}"


class FoldedConv(nn.Module):
    """A convolution and the batch norm behind it as one, as converters fold them.

    Args:
        conv, norm: trained in place; ``norm`` None where there is none.
        rounds: whether the folded weights are rounded to int8.
    """

    def __init__(self, conv: nn.Conv2d, norm: nn.BatchNorm2d | None, *, rounds: bool) -> None:
        super().__init__()
        self.conv, self.norm, self.rounds = conv, norm, rounds

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = (self.conv.weight, self.conv.bias) if self.norm is None else folded(self.conv, self.norm)
        tensors = {"weight": round_weights(weight) if self.rounds else weight}
        # Not F.conv2d: a padded convolution pads in its own forward.
        if self.conv.bias is not None and bias is not None:
            return functional_call(self.conv, {**tensors, "bias": bias}, (x,))
        result: Tensor = functional_call(self.conv, tensors, (x,))
        return result if bias is None else result + bias.view(-1, 1, 1)


class StandingNorm(nn.Module):
    """A batch norm whose statistics stand still while its scale and bias train.

    Args:
        norm: trained in place.
    """

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        norm = self.norm
        return nn.functional.batch_norm(
            x, norm.running_mean, norm.running_var, norm.weight, norm.bias, training=False, eps=norm.eps
        )


class RoundActivations(nn.Module):
    """256 steps between running averages of a tensor's extremes, zero among them.

    Args:
        momentum: weight of the newest batch.
    """

    low: Tensor
    high: Tensor

    def __init__(self, momentum: float) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("low", torch.zeros(()))
        self.register_buffer("high", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self._look(x.detach())
        if not bool(self.high > self.low):  # nothing but zeros was seen
            return x
        step = (self.high - self.low) / 255
        zero = torch.round(-self.low / step).clamp(0, 255).to(torch.int32)
        return torch.fake_quantize_per_tensor_affine(x, step, zero, 0, 255)

    @torch.no_grad()
    def _look(self, x: Tensor) -> None:
        low, high = torch.aminmax(x)
        share = self.momentum if bool(self.high > self.low) else 1.0
        self.low.lerp_(low.float().clamp(max=0), share)
        self.high.lerp_(high.float().clamp(min=0), share)


def folded(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Weights and bias of a convolution that does what it and its batch norm do in evaluation mode."""
    mean, variance = norm.running_mean, norm.running_var
    if mean is None or variance is None:
        raise ConfigError("batch norm without running statistics", next="Track them, or leave qat out")
    factor = torch.rsqrt(variance + norm.eps)
    factor = factor if norm.weight is None else factor * norm.weight
    bias = -mean if conv.bias is None else conv.bias - mean
    bias = bias * factor if norm.bias is None else bias * factor + norm.bias
    return conv.weight * factor.view(-1, 1, 1, 1), bias


def round_weights(weight: Tensor) -> Tensor:
    """(O, I, h, w) rounded to the int8 of each output channel, -127 to 127 times a step, as float."""
    step = weight.detach().flatten(1).abs().amax(1).clamp(min=1e-12) / 127
    zero = torch.zeros(len(step), dtype=torch.int32, device=weight.device)
    return torch.fake_quantize_per_channel_affine(weight, step, zero, 0, -127, 127)


@contextmanager
def simulated(net: Any, config: QatConfig) -> Iterator[QatReport]:
    """Let a network round as its 8-bit files will, as long as the context lasts; its tensors stay the same objects.

    Args:
        net: a network with ``features`` and ``input_size``; every landmark network has them.
        config: what rounds.

    Raises:
        ConfigError: ``keep_float`` names a module that has no weights, or the network's course depends on its input,
            so that it cannot be drawn as a graph.
    """
    trunk = getattr(net, TRUNK)
    rounding, report = rounded(trunk, net.input_size, config)
    setattr(net, TRUNK, rounding.train(trunk.training))
    norms = [
        (name, module)
        for name, module in net.named_modules()
        if isinstance(module, nn.BatchNorm2d) and not under(name, (TRUNK,))
    ]
    for name, module in norms:
        net.set_submodule(name, StandingNorm(module))
    try:
        yield report
    finally:
        for name, module in norms:
            net.set_submodule(name, module)
        setattr(net, TRUNK, trunk.train(rounding.training))


def rounded(trunk: nn.Module, input_size: int, config: QatConfig) -> tuple[fx.GraphModule, QatReport]:
    """A module that computes what ``trunk`` does, rounded, with the same tensors; see ``simulated``."""
    layers = [name for name, module in trunk.named_modules() if isinstance(module, nn.Conv2d)]
    check_modules(config.keep_float, [f"{TRUNK}.{name}" for name in layers], "keep_float")
    graph = _traced(trunk, input_size)
    weights: list[str] = []
    floats: list[str] = []
    for number, node in enumerate(node for node in list(graph.graph.nodes) if _is(graph, node, nn.Conv2d)):
        name = str(node.target)
        kept = under(f"{TRUNK}.{name}", config.keep_float) or (config.float_first and number == 0)
        (floats if kept else weights).append(f"{TRUNK}.{name}")
        _fold(graph, node, rounds=not kept)
    count = 0
    for node in list(graph.graph.nodes):
        if _rounds(graph, node, config):
            name = f"rounding_{count}"
            graph.add_module(name, RoundActivations(config.momentum))
            with graph.graph.inserting_after(node):
                after = graph.graph.call_module(name)
            node.replace_all_uses_with(after)
            after.args = (node,)
            count += 1
    graph.graph.lint()
    graph.recompile()
    graph.delete_all_unused_submodules()
    return graph, QatReport(tuple(weights), count, tuple(floats))


class _Tracer(fx.Tracer):
    """Convolutions and batch norms are nodes, our own kinds too."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, nn.Conv2d | nn.BatchNorm2d) or super().is_leaf_module(m, module_qualified_name)


def _traced(trunk: nn.Module, input_size: int) -> fx.GraphModule:
    """The trunk as a graph whose nodes know their results' shapes; without stochastic depth."""
    training = trunk.training
    try:
        graph = fx.GraphModule(trunk, _Tracer().trace(trunk.eval()))
    except (fx.proxy.TraceError, TypeError, NotImplementedError, RuntimeError) as error:
        raise ConfigError(
            f"qat: the network cannot be drawn as a graph ({error})", next="Take another network, or leave qat out"
        ) from error
    finally:
        trunk.train(training)
    like = next(trunk.parameters())
    ShapeProp(graph.eval()).propagate(torch.zeros(1, 3, input_size, input_size, device=like.device))
    return graph.train(training)


def _fold(graph: fx.GraphModule, node: fx.Node, *, rounds: bool) -> None:
    """Put a ``FoldedConv`` in the place of a convolution and its batch norm."""
    conv: Any = graph.get_submodule(str(node.target))
    norm = _only_user(node)
    if norm is None or not _is(graph, norm, nn.BatchNorm2d):
        norm = None
    batch_norm: Any = None if norm is None else graph.get_submodule(str(norm.target))
    graph.set_submodule(str(node.target), FoldedConv(conv, batch_norm, rounds=rounds))
    if norm is not None:
        norm.replace_all_uses_with(node)
        graph.graph.erase_node(norm)


def _rounds(graph: fx.GraphModule, node: fx.Node, config: QatConfig) -> bool:
    """Whether a result is rounded: every new one of floating point, behind the ReLU where one follows at once."""
    meta = node.meta.get("tensor_meta")
    if node.op not in ("call_module", "call_function", "call_method") or not isinstance(meta, TensorMetadata):
        return False
    if not meta.dtype.is_floating_point or _is(graph, node, _SAME_VALUES):
        return False
    module = str(node.target) if node.op == "call_module" else ""
    if module and under(f"{TRUNK}.{module}", config.keep_float):
        return False
    user = _only_user(node)
    return user is None or not _is_relu(graph, user)


def _is_relu(graph: fx.GraphModule, node: fx.Node) -> bool:
    return _is(graph, node, _RELUS) or node.target in (
        torch.relu,
        nn.functional.relu,
        nn.functional.relu6,
        "relu",
        "relu_",
    )


def _only_user(node: fx.Node) -> fx.Node | None:
    users = list(node.users)
    return users[0] if len(users) == 1 else None


def _is(graph: fx.GraphModule, node: fx.Node, kinds: Any) -> bool:
    return node.op == "call_module" and isinstance(graph.get_submodule(str(node.target)), kinds)
