"""Every network, by name. To add one: write its file, add its line. Listing imports nothing.

``MODELS`` are backbones with the landmark heads (`LandmarkNet`); ``STAGE_MODELS`` are networks of their own shape, for
the stages of a chain. `build_network` builds both; they are exported, tried and verified alike. A network says of
itself:

- ``task``: ``"landmarks"``, ``"relocalize"`` or ``"uniformize"``;
- ``output_names``: one for each tensor that ``forward`` gives, see converters/formats/interface.py;
- ``heads``, ``exact``: the modules that make them, and those whose arithmetic 8 bits would break; see
  quantize/base.py;
- ``input_size``, ``mean``, ``std``: what it wants to be fed.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import msgspec

from pocketface.sdk.errors import ConfigError, UnknownNameError
from pocketface.sdk.registry import Registry

if TYPE_CHECKING:
    from torch import nn

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

STAGE_MODELS = Registry(
    "stage model",
    extra="compress",
    table={
        "relocalizer": "pocketface.compression.models.relocalizer:build",
        "uniformizer": "pocketface.compression.models.uniformizer:build",
        "uniformizer_mobile": "pocketface.compression.models.uniformizer_mobile:build",
        "uniformizer_skip": "pocketface.compression.models.uniformizer:build_skip",
        "acdc": "pocketface.compression.models.acdc:build",
        "acdc_s": "pocketface.compression.models.acdc_student:build",
        "acdc_s_sep": "pocketface.compression.models.acdc_student:build_sep",
    },
)
"""Builders take ``n_points``, ``width`` and ``input_size``."""


class ModelSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A network as a recipe names it.

    Args:
        name: a key of ``MODELS`` or ``STAGE_MODELS``.
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


def build_network(spec: ModelSpec, *, n_points: int = 68) -> nn.Module:
    """Build a network of either table, see `build_model`; in training mode.

    Raises:
        UnknownNameError: no such network.
        ConfigError: a stage model with weights of a package, dropout or another head, which none of them has.
    """
    if spec.name in MODELS:
        return build_model(spec, n_points=n_points)
    if spec.name not in STAGE_MODELS:
        raise UnknownNameError("model", spec.name, [*MODELS, *STAGE_MODELS])
    if (spec.init, spec.dropout, spec.head) != ("scratch", 0.0, "pooled"):
        raise ConfigError(
            f"model {spec.name!r} with init {spec.init!r}, dropout {spec.dropout:g}, head {spec.head!r}",
            expected="init scratch, no dropout and no head: it has none of these",
            next="Leave these keys out",
        )
    net: nn.Module = STAGE_MODELS[spec.name](n_points=n_points, width=spec.width, input_size=spec.input_size)
    return net
