"""BlazeFace, short range (Bazarevsky et al., "BlazeFace: Sub-millisecond neural face detection on mobile GPUs", 2019),
as MediaPipe ships it: half-size double blocks, 128 px, 896 anchors. Re-implemented here; the weights are read by
``blazeface_weights``.

picture (S, S) --5 x 5 convolution, 11 blocks--> S / 8 --5 blocks--> S / 16
                                                  |  2 anchors a cell     |  6 anchors a cell
                                                  +----------> (N, 1 + 4 + 12) <----------+
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from pocketface.compression.models.blocks import MID_GREY
from pocketface.sdk.errors import ConfigError

STEM = 24
BLOCKS = ((24, 1), (28, 1), (32, 2), (36, 1), (42, 1), (48, 2), (56, 1), (64, 1), (72, 1), (80, 1), (88, 1))
"""Channels and stride of each block down to an eighth of the input."""
LAST_BLOCKS = ((96, 2), (96, 1), (96, 1), (96, 1), (96, 1))
"""Of each block down to a sixteenth."""
ANCHORS = (2, 6)
"""Anchors a cell of the finer and of the coarser grid; all have their cell's centre and no size of their own."""

POINTS = ("right_eye", "left_eye", "nose_tip", "mouth_centre", "right_ear", "left_ear")
"""The key points of a face, right and left as the person sees it."""

VALUES = 1 + 4 + 2 * len(POINTS)
"""Of one anchor: a logit, the box's corners, the key points."""


def _padded(x: Tensor, kernel: int) -> Tensor:
    """Zeros around a map that a stride of 2 shrinks, one more on the right and at the bottom, as TensorFlow's SAME."""
    total = kernel - 2
    return functional.pad(x, (total // 2, total - total // 2, total // 2, total - total // 2))


class BlazeBlock(nn.Module):
    """A depthwise and a 1 x 1 convolution beside a shortcut, which is shrunk by maxima and filled up with channels of
    zeros; then ReLU. ``(B, inputs, H, W)`` -> ``(B, outputs, H / stride, W / stride)``.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.stride, self.more = stride, outputs - inputs
        self.depthwise = nn.Conv2d(inputs, inputs, 3, stride, 1 if stride == 1 else 0, groups=inputs)
        self.pointwise = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        kept = x
        if self.stride == 2:
            x, kept = _padded(x, 3), functional.max_pool2d(x, 2, 2)
        if self.more:
            kept = functional.pad(kept, (0, 0, 0, 0, 0, self.more))
        return functional.relu(self.pointwise(self.depthwise(x)) + kept)


class Anchors(nn.Module):
    """Adds each anchor's place to the points that were found relative to it: ``(B, N, 8, 2)`` -> the same, in crop
    coordinates.

    Args:
        sides: of the grids, in cells, in the order of their anchors.
    """

    places: Tensor

    def __init__(self, sides: tuple[int, ...]) -> None:
        super().__init__()
        rows = []
        for side, count in zip(sides, ANCHORS, strict=True):
            centres = (torch.arange(side) + 0.5) / side - 0.5
            y, x = torch.meshgrid(centres, centres, indexing="ij")
            rows.append(torch.stack((x, y), dim=-1).reshape(-1, 2).repeat_interleave(count, dim=0))
        self.register_buffer("places", torch.cat(rows)[None, :, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.places


class BlazeFace(nn.Module):
    """Faces in a picture.

    ``forward`` takes ``(B, 3, S, S)`` float32, RGB, ``(pixel - 127.5) / 127.5``, and gives one output, ``faces``:
    ``(B, N, 17)`` float32, for each of N anchors (896 at 128 px) the logit of a face there, its box x0, y0, x1, y1, and
    x and y of its six `POINTS`, in crop coordinates u (the picture spans [-0.5, 0.5]). The box is the detector's own:
    from the brows to the chin.

    Args:
        input_size: S, pixels, a multiple of 16, at least 32; the weights are for 128.
    """

    task = "detection"
    output_names = ("faces",)
    heads = ("fine_score", "fine_face", "coarse_score", "coarse_face")

    def __init__(self, *, input_size: int) -> None:
        super().__init__()
        if input_size % 16 or input_size < 32:
            raise ConfigError(
                f"model.input_size: {input_size} for 'blazeface'", expected="a multiple of 16, at least 32: two grids"
            )
        self.input_size = input_size
        self.mean = self.std = MID_GREY
        self.stem = nn.Conv2d(3, STEM, 5, 2)
        self.fine, channels = _chain(STEM, BLOCKS)
        self.fine_score = nn.Conv2d(channels, ANCHORS[0], 1)
        self.fine_face = nn.Conv2d(channels, ANCHORS[0] * (VALUES - 1), 1)
        self.coarse, channels = _chain(channels, LAST_BLOCKS)
        self.coarse_score = nn.Conv2d(channels, ANCHORS[1], 1)
        self.coarse_face = nn.Conv2d(channels, ANCHORS[1] * (VALUES - 1), 1)
        self.anchors = Anchors((input_size // 8, input_size // 16))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if isinstance(module, BlazeBlock):
                nn.init.normal_(module.pointwise.weight, std=0.02)  # a block adds little to its shortcut at first

    @property
    def anchor_shape(self) -> tuple[int, int]:
        """(N, 17)."""
        return self.anchors.places.shape[1], VALUES

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """See the class: ``(B, 3, S, S)`` -> a tuple of ``(B, N, 17)``."""
        fine = self.fine(functional.relu(self.stem(_padded(x, 5))))
        coarse = self.coarse(fine)
        logits = torch.cat((_by_anchor(self.fine_score(fine), 1), _by_anchor(self.coarse_score(coarse), 1)), dim=1)
        points = torch.cat((self._points(self.fine_face, fine), self._points(self.coarse_face, coarse)), dim=1)
        return (torch.cat((logits, self.anchors(points).reshape(len(x), -1, VALUES - 1)), dim=2),)

    @staticmethod
    def _points(head: nn.Conv2d, grid: Tensor) -> Tensor:
        return _by_anchor(head(grid), VALUES - 1).reshape(len(grid), -1, (VALUES - 1) // 2, 2)


def _chain(channels: int, blocks: tuple[tuple[int, int], ...]) -> tuple[nn.Sequential, int]:
    """Blocks after each other, and how many channels the last gives."""
    made = []
    for outputs, stride in blocks:
        made.append(BlazeBlock(channels, outputs, stride))
        channels = outputs
    return nn.Sequential(*made), channels


def _by_anchor(grid: Tensor, values: int) -> Tensor:
    """``(B, anchors x values, H, W)`` -> ``(B, H x W x anchors, values)``: row by row, cell by cell."""
    return grid.permute(0, 2, 3, 1).reshape(grid.shape[0], -1, values)


def build(*, n_points: int, width: float, input_size: int) -> BlazeFace:
    """The network of a recipe; ``n_points`` means nothing to it, and it exists in one width.

    Raises:
        ConfigError: another width than 1.
    """
    if width != 1.0:
        raise ConfigError(f"model.width: {width:g} for 'blazeface'", expected="1, which its weights are for")
    return BlazeFace(input_size=input_size)
