"""Every network, by name. To add one: write its file, add its line. Listing imports nothing.

``MODELS`` are backbones with the landmark heads (`LandmarkNet`); ``STAGE_MODELS`` are networks of their own shape, for
the stages of a chain and the detector; ``SEGMENT_MODELS`` are networks of masks (`SegmentNet`). `build_network` builds
them all; they are exported, tried and verified alike. A network says of itself:

- ``task``: ``"landmarks"``, ``"relocalize"``, ``"uniformize"``, ``"segmentation"`` or ``"detection"``;
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
    from pocketface.compression.models.segment_blocks import SegmentNet

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
        "blazeface": "pocketface.compression.models.blazeface:build",
    },
)
"""Builders take ``n_points``, ``width`` and ``input_size``."""

SEGMENT_MODELS = Registry(
    "segmentation model",
    extra="compress",
    table={
        "mobile_segment": "pocketface.compression.models.mobile_segment:build",
        "hair_two_stage": "pocketface.compression.models.hair_two_stage:build",
        "hourglass": "pocketface.compression.models.hourglass:build",
        "unet": "pocketface.compression.models.unet:build",
    },
)
"""Builders take ``n_classes``, ``width``, ``input_size`` and the network's own options by name."""


class ModelSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A network as a recipe names it.

    Args:
        name: a key of ``MODELS``, ``STAGE_MODELS`` or ``SEGMENT_MODELS``.
        width: multiplier of the channels, above 0; most networks exist at 1.0 only.
        input_size: side of the square crop, pixels, at least 32 (the networks shrink it 32-fold).
        init: ``"scratch"``, ``"package"`` (the ImageNet weights that a Python package ships) or the path of a
            checkpoint file.
        dropout: on the pooled features, in [0, 1).
        head: read the points off the pooled features, as the papers' networks do, or off the whole feature map.
        options: of a segmentation model, see the ``…Options`` of its file.

    Raises:
        ConfigError: a value is out of range. The name is checked on use, so that listing a recipe imports nothing.
    """

    name: str
    width: float = 1.0
    input_size: int = 128
    init: str = "scratch"
    dropout: float = 0.0
    head: Literal["pooled", "spatial"] = "pooled"
    options: dict[str, bool | int | float | str] = {}

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
        ConfigError: the model does not exist in this width, has no package with weights, or was given options.
        MissingExtraError: torch or the package with weights is not installed.
        WeightsError: the checkpoint does not fit.
    """
    if spec.options:
        raise _no_options(spec)
    net: LandmarkNet = MODELS[spec.name](
        n_points=n_points, width=spec.width, input_size=spec.input_size, dropout=spec.dropout
    )
    if spec.head == "spatial":
        net.use_spatial_head()
    if spec.init != "scratch":
        from pocketface.compression.models.weights import load_backbone

        load_backbone(net, spec.init)
    return net


def build_network(spec: ModelSpec, *, n_points: int = 68, n_classes: int = 2) -> nn.Module:
    """Build a network of any table, see `build_model`; in training mode.

    Args:
        spec: what to build.
        n_points: of landmarks; masks have none.
        n_classes: of a mask, the background included.

    Raises:
        UnknownNameError: no such network.
        ConfigError: settings that this kind of network does not have: dropout and another head are the landmark
            networks', options the segmentation networks', and a stage model has no package with weights either.
    """
    if spec.name in MODELS:
        return build_model(spec, n_points=n_points)
    if spec.name in SEGMENT_MODELS:
        return _build_segment(spec, n_classes)
    if spec.name not in STAGE_MODELS:
        raise UnknownNameError("model", spec.name, [*MODELS, *STAGE_MODELS, *SEGMENT_MODELS])
    if (spec.init, spec.dropout, spec.head) != ("scratch", 0.0, "pooled"):
        raise ConfigError(
            f"model {spec.name!r} with init {spec.init!r}, dropout {spec.dropout:g}, head {spec.head!r}",
            expected="init scratch, no dropout and no head: it has none of these",
            next="Leave these keys out",
        )
    if spec.options:
        raise _no_options(spec)
    net: nn.Module = STAGE_MODELS[spec.name](n_points=n_points, width=spec.width, input_size=spec.input_size)
    return net


def _build_segment(spec: ModelSpec, n_classes: int) -> SegmentNet:
    if (spec.dropout, spec.head) != (0.0, "pooled"):
        raise ConfigError(
            f"model {spec.name!r} with dropout {spec.dropout:g}, head {spec.head!r}",
            expected="no dropout and no head: a mask network has neither",
            next="Leave these keys out",
        )
    net: SegmentNet = SEGMENT_MODELS[spec.name](
        n_classes=n_classes, width=spec.width, input_size=spec.input_size, **spec.options
    )
    if spec.init != "scratch":
        net.load_pretrained(spec.init)
    return net


def _no_options(spec: ModelSpec) -> ConfigError:
    return ConfigError(
        f"model.options: {', '.join(spec.options)} for {spec.name!r}, which has none",
        choices=list(SEGMENT_MODELS),
        next="Leave the key out, or name one of these networks",
    )
