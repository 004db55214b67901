"""How much a network computes and holds."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from pocketface.converters.formats.interface import INPUT


def count_parameters(net: nn.Module) -> int:
    """Trainable and frozen parameters; buffers (batch norm's statistics) do not count."""
    return sum(parameter.numel() for parameter in net.parameters())


def flops(net: nn.Module) -> int:
    """Floating-point operations of one forward pass at batch 1 and ``net.input_size``, by torch's ``FlopCounterMode``.

    Of a network with further inputs (the mask of the frame before), what they cost is counted too.

    A multiplication and an addition count as two: this is 2 x MACs (papers often print MACs as "FLOPs"). Only
    convolutions and matrix products count: not biases, activations, pooling and shortcuts. Works on the meta device.
    """
    parameter = next(net.parameters())
    size: int = net.input_size  # type: ignore[assignment]
    make_examples = getattr(net, "example_inputs", None)
    inputs = make_examples(size) if make_examples else {INPUT: torch.zeros(1, 3, size, size)}
    given = [value.to(parameter.device, parameter.dtype) for value in inputs.values()]
    training = net.training
    net.eval()
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            net(*given)
    finally:
        net.train(training)
    return int(counter.get_total_flops())
