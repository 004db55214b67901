"""What every way of pruning shares: its configuration is checked, the network that was given stays as it is, and what
was taken is told.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from torch import Tensor, nn

from pocketface.compression.models.flops import count_parameters, flops
from pocketface.compression.models.reshape import mark_pruned
from pocketface.converters.options import Options, configured
from pocketface.sdk.errors import BadInputError, ConfigError

N = TypeVar("N", bound=nn.Module)

Losses = Callable[[nn.Module, int], Tensor]
"""(network, number of the batch) -> the training loss on that batch: a scalar that can be differentiated."""


class PruneConfig(Options, frozen=True, kw_only=True):
    """Base of every pruner's configuration.

    Attributes:
        keep_flops: share of the network's FLOPs that may stay, in (0, 1).
    """

    keep_flops: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.keep_flops < 1:
            raise ConfigError(f"keep_flops: {self.keep_flops:g}", expected="a share between 0 and 1")


@dataclass(frozen=True)
class PruneReport:
    """What was taken from a network.

    Attributes:
        method: of pruning.
        flops, parameters: (before, after).
        channels: module -> output channels (before, after), of those that lost some.
    """

    method: str
    flops: tuple[int, int]
    parameters: tuple[int, int]
    channels: dict[str, tuple[int, int]]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)

    def __str__(self) -> str:
        sizes = {"FLOPs": self.flops, "parameters": self.parameters}
        shares = [f"{name} {after / before:.0%}" for name, (before, after) in sizes.items()]
        return f"{self.method}: {', '.join(shares)} left; {len(self.channels)} layers have fewer channels"


@dataclass(frozen=True)
class Pruner:
    """One way to prune a network.

    Attributes:
        name: as registered.
        version: raised whenever the same configuration would give another network.
        config_type: its configuration; all fields have defaults.
        function: (network, losses, configuration) -> takes from the network, in place.
        refuse: (network, configuration) -> raises ``ConfigError`` if the one does not fit the other.
    """

    name: str
    version: int
    config_type: type[PruneConfig]
    function: Callable[[nn.Module, Losses, Any], None]
    refuse: Callable[[nn.Module, Any], None]

    def configure(self, values: Mapping[str, Any] | None = None) -> PruneConfig:
        """Plain values, as a recipe has them, to this pruner's configuration.

        Raises:
            ConfigError: an unknown key (the nearest valid one is named), a wrong type or a value out of range.
        """
        return configured(self.config_type, values, self.name)

    def check(self, net: nn.Module, values: Mapping[str, Any] | None = None) -> None:
        """Refuse settings that do not exist or do not fit a network, which may have any weights.

        Raises:
            ConfigError: see above.
        """
        self.refuse(net, self.configure(values))

    def __call__(self, net: N, losses: Losses, config: PruneConfig | None = None) -> tuple[N, PruneReport]:
        """Prune.

        Args:
            net: a trained network; it is copied, not changed.
            losses: what says which channels matter.
            config: default: the pruner's defaults.

        Returns:
            (the pruned network in evaluation mode, what was taken).

        Raises:
            BadInputError: the configuration belongs to another pruner.
            ConfigError: it names modules that the network does not have, or the network cannot become so small.
        """
        config = self.config_type() if config is None else config
        if not isinstance(config, self.config_type):
            raise BadInputError(
                f"configuration {type(config).__name__} for {self.name}", expected=self.config_type.__name__
            )
        self.refuse(net, config)
        pruned = copy.deepcopy(net).eval()
        self.function(pruned, losses, config)
        pruned.zero_grad(set_to_none=True)
        mark_pruned(pruned)
        before, after = channels_of(net), channels_of(pruned)
        return pruned, PruneReport(
            method=self.name,
            flops=(flops(net), flops(pruned)),
            parameters=(count_parameters(net), count_parameters(pruned)),
            channels={path: (count, after[path]) for path, count in before.items() if after[path] < count},
        )


def channels_of(net: nn.Module) -> dict[str, int]:
    """Output channels of every layer with weights, by its path."""
    return {
        path: module.weight.shape[0]
        for path, module in net.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    }
