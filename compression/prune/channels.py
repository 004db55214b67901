"""Whole channels, through torch-pruning, which finds all layers that a channel runs through (DepGraph, Fang et al.
2023).

What is left is a dense network with narrower layers: every runtime is faster with it, none has to know.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import nn

from pocketface.compression.models.flops import flops
from pocketface.compression.prune.base import Losses, PruneConfig, Pruner
from pocketface.compression.quantize.base import check_modules, under
from pocketface.sdk.errors import ConfigError

STEPS = 100
"""Into how many parts the way to an empty network is divided; the first step that is small enough is the last."""


class ChannelsConfig(PruneConfig, frozen=True, kw_only=True):
    """Which channels go.

    Attributes:
        importance: ``"taylor"``: how much the loss changes to first order when the channel goes (Molchanov et al.
            2019), summed over all layers it runs through; ``"magnitude"``: the norm of its weights, against the mean
            of the channels beside it.
        batches: of training data behind each of Taylor's steps.
        renew: Taylor's gradients are taken anew after so many steps.
        round_to: channels stay a multiple of this, which is what fast kernels like.
        at_least: share of its channels that every layer keeps.
        keep: modules (and all below them) whose output channels all stay.
    """

    importance: Literal["taylor", "magnitude"] = "taylor"
    batches: int = 8
    renew: int = 5
    round_to: int = 8
    at_least: float = 0.2
    keep: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("batches", "renew", "round_to"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}: {getattr(self, name)}", expected="1 or more")
        if not 0 < self.at_least < 1:
            raise ConfigError(f"at_least: {self.at_least:g}", expected="a share between 0 and 1")


def _layers(net: nn.Module) -> dict[str, nn.Module]:
    return {path: module for path, module in net.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)}


def _refuse(net: nn.Module, config: ChannelsConfig) -> None:
    check_modules(config.keep, sorted(_layers(net)), "keep")


def _prune(net: nn.Module, losses: Losses, config: ChannelsConfig) -> None:
    import torch_pruning as tp

    kept = [module for path, module in _layers(net).items() if under(path, config.keep)]
    size: int = net.input_size  # type: ignore[assignment]
    with warnings.catch_warnings():
        # It says so of every parameter outside a layer that it knows; what is left is run and compared below.
        warnings.simplefilter("ignore")
        pruner = tp.pruner.BasePruner(
            net,
            torch.zeros(1, 3, size, size),
            importance=_importance(config),
            global_pruning=True,
            pruning_ratio=1.0,
            max_pruning_ratio=1 - config.at_least,
            iterative_steps=STEPS,
            ignored_layers=[*_outputs(net), *kept],
            round_to=config.round_to,
        )
    goal = config.keep_flops * flops(net)
    for step in range(STEPS):
        if config.importance == "taylor" and step % config.renew == 0:
            _take_gradients(net, losses, config.batches)
        pruner.step()
        if flops(net) <= goal:
            return
    raise ConfigError(
        f"keep_flops: {config.keep_flops:g} cannot be reached, {flops(net) / (goal / config.keep_flops):.2f} are left",
        next="Lower at_least or round_to, shorten keep, or ask for a larger keep_flops",
    )


def _importance(config: ChannelsConfig) -> Callable[..., Any]:
    import torch_pruning as tp

    if config.importance == "magnitude":
        return tp.importance.GroupMagnitudeImportance()
    # What the loss changes by can be compared across layers as it is.
    return tp.importance.GroupTaylorImportance(group_reduction="sum", normalizer=None)


def _outputs(net: nn.Module) -> list[nn.Module]:
    """The layers that make the network's outputs: the last one with weights of every head."""
    found: list[nn.Module] = []
    for name in getattr(net, "heads", ()):
        layers = [module for module in net.get_submodule(name).modules() if isinstance(module, nn.Conv2d | nn.Linear)]
        found += layers[-1:]
    return found


def _take_gradients(net: nn.Module, losses: Losses, batches: int) -> None:
    """Leave the mean gradient of some batches in the parameters: zeros where the loss does not reach."""
    for parameter in net.parameters():
        parameter.grad = torch.zeros_like(parameter)
    for number in range(batches):
        (losses(net, number) / batches).backward()


PRUNER = Pruner("channels", 1, ChannelsConfig, _prune, _refuse)
