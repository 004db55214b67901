"""Every landmark network, by name. To add one: write its file, add its line. Listing imports nothing."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import msgspec

from pocketface.sdk.errors import ConfigError
from pocketface.sdk.registry import Registry

if TYPE_CHECKING:
    from pocketface.compression.models.heads import LandmarkNet

MODELS = Registry(
    "model",
    extra="compress",
    table={
        "mobilenetv2": "pocketface.compression.models.mobilenetv2:build",
        "efficientnet_b3": "pocketface.compression.models.efficientnet:build_b3",
        "efficientnet_lite0": "pocketface.compression.models.efficientnet_lite:build_lite0",
        "efficientnet_lite1": "pocketface.compression.models.efficientnet_lite:build_lite1",
        "efficientnet_lite2": "pocketface.compression.models.efficientnet_lite:build_lite2",
    },
)


class ModelSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A network as a recipe names it.

    Args:
        name: a key of ``MODELS``.
        width: multiplier of the channels, above 0; most networks exist at 1.0 only.
        input_size: side of the square crop, pixels, at least 32 (the networks shrink it 32-fold).
        init: ``"scratch"``, ``"package"`` (the ImageNet weights that a Python package ships) or the path of a
            checkpoint file.
        dropout: on the pooled features, in [0, 1).
        head: read the points off the pooled features, as the papers' networks do, or off the whole feature map.

    Raises:
        ConfigError: a value is out of range. The name is checked on use, so that listing a recipe imports nothing.
    """

    name: str
    width: float = 1.0
    input_size: int = 128
    init: str = "scratch"
    dropout: float = 0.0
    head: Literal["pooled", "spatial"] = "pooled"

    def __post_init__(self) -> None:
        if not (math.isfinite(self.width) and self.width > 0):
            raise ConfigError(f"model.width: {self.width}", expected="a finite number above 0")
        if self.input_size < 32:
            raise ConfigError(f"model.input_size: {self.input_size}", expected="at least 32 pixels")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"model.dropout: {self.dropout}", expected="a number in [0, 1)")
        if not self.init:
            raise ConfigError("model.init: empty", choices=["scratch", "package", "the path of a checkpoint file"])


def build_model(spec: ModelSpec, *, n_points: int = 68) -> LandmarkNet:
    """Build a network and, unless ``init`` is ``"scratch"``, load its backbone.

    Initial weights come from torch's global generator: seed it first.

    Args:
        spec: what to build.
        n_points: landmarks.

    Returns:
        The network, in training mode.

    Raises:
        UnknownNameError: no such model.
        ConfigError: the model does not exist in this width, or has no package with weights.
        MissingExtraError: torch or the package with weights is not installed.
        WeightsError: the checkpoint does not fit.
    """
    net: LandmarkNet = MODELS[spec.name](
        n_points=n_points, width=spec.width, input_size=spec.input_size, dropout=spec.dropout
    )
    if spec.head == "spatial":
        net.use_spatial_head()
    if spec.init != "scratch":
        from pocketface.compression.models.weights import load_backbone

        load_backbone(net, spec.init)
    return net
