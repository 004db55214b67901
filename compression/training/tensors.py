"""Pixels -> a network's input, and a network over many faces in inference mode."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from pocketface.compression.models.heads import LandmarkNet


class Frozen:
    """A network that helps training and is none of its weights: in no checkpoint, in no average."""

    def __init__(self, net: nn.Module) -> None:
        self.net: Any = net.requires_grad_(False).eval()

    def __deepcopy__(self, memo: Any) -> Frozen:
        return self  # the averaged copy of the training module needs no copy of this

    def on(self, device: torch.device) -> Any:
        """The network, where the batch is."""
        return self.net.to(device)


def network_input(net: Any, pixels: Tensor) -> Tensor:
    """(B, 3, S, S) in [0, 255] -> normalised as the network (any with ``mean`` and ``std``) wants it, channels last in
    memory (twice as fast on a CPU)."""
    mean, std = (pixels.new_tensor(values).view(1, 3, 1, 1) for values in (net.mean, net.std))
    return ((pixels - mean) / std).contiguous(memory_format=torch.channels_last)


@torch.inference_mode()
def predict(net: LandmarkNet, pixels: Tensor, *, batch: int = 64) -> tuple[Tensor, Tensor]:
    """Run a network over many crops.

    Args:
        net: put into evaluation mode for the call, and back.
        pixels: (N, 3, S, S) float32 in [0, 255].

    Returns:
        points (N, n, 2) normalised, score logits (N,); float32 on the CPU.
    """
    was_training = net.training
    net.eval()
    parts = [net(network_input(net, part)) for part in pixels.split(batch)]
    net.train(was_training)
    return torch.cat([points for points, _ in parts]).float().cpu(), torch.cat(
        [score for _, score in parts]
    ).float().cpu()
