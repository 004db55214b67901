"""Geometry transfer network: the head of each stage of AC-DC and of its students (RULe paper, III-C and Fig. 4).

features --1 x 1 conv--> attention maps --softmax, expected place--> 68 points --linear--> other mark-ups, head pose

The paper says "1 x 1 convolutions and soft-argmax blocks" and refers to Dapogny et al. (FG 2020) for the rest. What we
chose where it leaves things open:

- The first mark-up's logits start from a wide Gaussian around its mean place (`GTN.set_mean_shape`). A convolution
  sees the same everywhere, so without it all points start in the middle of the crop, with a gradient that is spread
  over the whole map; with it training starts at the mean shape, each point looking around its own place. Tried on
  1810 faces of 300-W, AC-DC-s of half width at 32 pixels, two epochs, one seed: validation NME 9.8 % with a width of
  0.15 and logits as they are, 8.4 % with 0.1 and `SHARPNESS` 5, both at a learning rate of 5e-3; 0.07, 0.15 and 0.2 are
  worse.
- Other mark-ups are linear in the first one's coordinates: the fixed matrices of training/markups.py plus a learned
  correction (annotators of another set may mean another place), which starts at 0 and is scaled down. So a set that
  has only 5 points still moves all 68. Without that scale, Adam's equal steps on all 136 weights of a coordinate throw
  the points about and cost the 68 a percentage point of NME (9.8 % for 8.7 %).
- Head pose is read off the points and the stage's pooled features together by two such layers: angles are no linear
  function of points, and features know what outlines leave open.
- A linear layer on a vector is a 1 x 1 convolution on a 1 x 1 map, and exports better.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pocketface.compression.training.markups import POINT_MARKUPS, markup_matrix
from pocketface.sdk.errors import ConfigError

POSE_CHANNELS = 64
SHARPNESS = 5.0
"""Factor on the attention's logits: an inverse temperature. With Adam, whose steps do not depend on the gradient's
size, it sets how soon a map can become a peak."""
TRANSFER_SCALE = 0.02
"""Factor on the learned correction of the other mark-ups."""
PRIOR_SIGMA = 0.1
"""Of the Gaussian that the attention starts from, in sides of the crop."""
PRIOR_FLOOR = -8.0
"""Its logits go no lower: a place far from the mean costs no more, and 8-bit steps stay fine."""


@dataclass
class StageOutput:
    """What one stage of a cascade, or one decoding layer of a student, says.

    Attributes:
        points: mark-up -> (B, n, 2) float32, normalised crop coordinates.
        pose: (B, 3) float32: yaw, pitch, roll in degrees / 90.
        maps: (B, 68, h, w) float32: each landmark's attention, of sum 1; None where it was read from a file.
    """

    points: dict[str, Tensor]
    pose: Tensor
    maps: Tensor | None = None


class Transfer(nn.Module):
    """One mark-up from the 68 points of iBUG: its fixed matrix, and a learned correction that starts at 0.

    (B, 68, 2) -> (B, n, 2).
    """

    matrix: Tensor

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.register_buffer("matrix", markup_matrix(markup).clone())
        rows, columns = self.matrix.shape
        self.correction = nn.Linear(2 * columns, 2 * rows)
        nn.init.zeros_(self.correction.weight)
        nn.init.zeros_(self.correction.bias)

    def forward(self, points: Tensor) -> Tensor:
        more = self.correction(points.reshape(-1, 2 * points.shape[1])).reshape(len(points), -1, 2)
        return torch.matmul(self.matrix, points) + TRANSFER_SCALE * more


class GTN(nn.Module):
    """Landmark attention maps, points of every mark-up and head pose from one feature map.

    Args:
        channels: of the feature map.
        side: of the feature map, cells.
        n_points: of the first mark-up. Other mark-ups exist for the 68 points of iBUG only.

    Raises:
        ConfigError: a number is below 1.
    """

    places: Tensor
    prior: Tensor

    def __init__(self, channels: int, side: int, *, n_points: int = 68) -> None:
        super().__init__()
        if min(channels, side, n_points) < 1:
            raise ConfigError(f"GTN of {channels} channels, side {side}, {n_points} points", expected="1 or more each")
        self.side, self.n_points = side, n_points
        self.attention = nn.Conv2d(channels, n_points, 1)
        # Cell centres as in the coordinate convention: cell = (u + 0.5) side - 0.5.
        ticks = (torch.arange(side, dtype=torch.float32) + 0.5) / side - 0.5
        rows, columns = torch.meshgrid(ticks, ticks, indexing="ij")
        self.register_buffer("places", torch.stack([columns, rows], -1).reshape(side * side, 2))
        self.register_buffer("prior", torch.zeros(1, n_points, side * side))
        others = [markup for markup in POINT_MARKUPS if markup != "68"] if n_points == 68 else []
        self.transfer = nn.ModuleDict({markup: Transfer(markup) for markup in others})
        self.pose = nn.Sequential(
            nn.Linear(2 * n_points + channels, POSE_CHANNELS), nn.ReLU(inplace=True), nn.Linear(POSE_CHANNELS, 3)
        )
        # Small, so that the first maps are the prior and the first angles are 0.
        nn.init.normal_(self.attention.weight, std=1e-2)
        nn.init.zeros_(self.attention.bias)  # type: ignore[arg-type]
        nn.init.normal_(self.pose[2].weight, std=1e-2)  # type: ignore[arg-type]
        nn.init.zeros_(self.pose[2].bias)  # type: ignore[arg-type]

    def locate(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Attention and what it points at: the soft-argmax.

        Args:
            features: (B, C, h, w).

        Returns:
            maps (B, n, h, w), each of sum 1; points (B, n, 2): the expected place, inside the crop by construction.
        """
        logits = SHARPNESS * self.attention(features).reshape(-1, self.n_points, self.side * self.side) + self.prior
        maps = torch.softmax(logits, -1)
        return maps.reshape(-1, self.n_points, self.side, self.side), torch.matmul(maps, self.places)

    def angles(self, features: Tensor, points: Tensor) -> Tensor:
        """(B, C, h, w) and (B, n, 2) -> (B, 3): yaw, pitch, roll in degrees / 90."""
        geometry = points.reshape(-1, 2 * self.n_points)
        angles: Tensor = self.pose(torch.cat([geometry, features.mean((2, 3))], 1))
        return angles

    def forward(self, features: Tensor) -> StageOutput:
        """Everything: (B, C, h, w) -> see `StageOutput`."""
        maps, points = self.locate(features)
        found = {str(self.n_points): points}
        for markup, layer in self.transfer.items():
            found[markup] = layer(points)
        return StageOutput(found, self.angles(features, points), maps)

    @torch.no_grad()
    def set_mean_shape(self, mean: Tensor) -> None:
        """Let training start at the mean shape: logits of a Gaussian of `PRIOR_SIGMA` around each landmark's mean.

        Args:
            mean: (n, 2), normalised crop coordinates.

        Raises:
            ConfigError: its shape does not fit or a value is not finite.
        """
        if tuple(mean.shape) != (self.n_points, 2):
            raise ConfigError(f"mean shape: {tuple(mean.shape)}", expected=f"({self.n_points}, 2)")
        if not bool(torch.isfinite(mean).all()):
            raise ConfigError("mean shape: a value is not finite", next="Check the training annotations")
        far = (self.places[None] - mean.to(self.places)[:, None]).square().sum(-1)
        self.prior.copy_((-far / (2 * PRIOR_SIGMA**2)).clamp(min=PRIOR_FLOOR)[None])


class StagedNet(nn.Module):
    """What the cascade and its students share: see the two files for what lies between input and heads.

    ``forward`` takes ``(B, 3, S, S)`` float32, RGB, ``(pixel - mean) / std``, and gives the last stage's

    - points: ``(B, n, 2)`` float32, x and y in normalised crop coordinates, in [-0.5, 0.5] by construction;
    - pose: ``(B, 3)`` float32: yaw, pitch and roll in degrees / 90.
    """

    task = "landmarks"
    output_names = ("points", "pose")
    heads = ()
    exact = ("gtn",)
    gtn: nn.ModuleList
    n_points: int
    input_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def stages(self, x: Tensor) -> list[StageOutput]:
        """Of all four stages, for training: the last one's are those that ``forward`` gives."""
        raise NotImplementedError

    @torch.no_grad()
    def set_mean_shape(self, mean: Tensor) -> None:
        """See `GTN.set_mean_shape`: (n, 2), for every stage."""
        for head in self.gtn:
            head.set_mean_shape(mean)  # type: ignore[operator]


def check_input_size(name: str, input_size: int, multiple: int = 16) -> None:
    """Refuse a crop that cannot be halved often enough.

    Raises:
        ConfigError: the side is no multiple.
    """
    if input_size % multiple:
        raise ConfigError(
            f"model.input_size: {input_size} for {name!r}",
            expected=f"a multiple of {multiple}: it is halved {multiple.bit_length() - 1} times and put together again",
        )
