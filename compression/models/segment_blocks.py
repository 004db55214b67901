"""What the segmentation networks share: their interface (`SegmentNet`) and their blocks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pocketface.sdk.errors import BadInputError, ConfigError

OUTPUT_SIZE = 256
"""Side of the logits' grid by default: what the issue's papers print their masks at."""


class SegmentNet(nn.Module):
    """A network that says of each cell of an M x M grid over the crop which class it shows.

    ``forward(image)``, or ``forward(image, previous)`` where ``previous`` is set, gives a tuple of one tensor, the same
    in training and evaluation:

    - image: (B, 3, S, S) float32, RGB, ``(pixel - mean) / std`` with ``pixel`` in 0..255;
    - previous: (B, C, M, M) float32, the class probabilities of the frame before in this frame's crop; zeros, or left
      out, where there is none;
    - logits: (B, C, M, M) float32, before the softmax over the classes.

    Subclasses implement `maps`, which gives the logits and what else a loss or a student looks at.

    Args:
        n_classes: C, 2 or more; class 0 is the background.
        input_size: S, pixels. Padding may be fixed for it.
        output_size: M, cells.
        mean, std: of the input normalisation, three each, 0..255 pixel units, RGB.
        previous: whether there is the second input.

    Raises:
        ConfigError: fewer than two classes.
    """

    task = "segmentation"
    output_names = ("logits",)
    heads = ("logits",)
    """The last convolution: in 8 bits, neighbouring classes would tie."""

    def __init__(
        self,
        *,
        n_classes: int,
        input_size: int,
        output_size: int,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
        previous: bool = False,
    ) -> None:
        super().__init__()
        if n_classes < 2:
            raise ConfigError(f"n_classes: {n_classes}", expected="2 or more: the background is one of them")
        self.n_classes, self.input_size, self.output_size = n_classes, input_size, output_size
        self.mean, self.std, self.previous = mean, std, previous

    def example_inputs(self, size: int) -> dict[str, Tensor]:
        """What exporters ask for, see converters/formats/interface.py."""
        inputs = {"image": torch.zeros(1, 3, size, size)}
        if self.previous:
            inputs["previous"] = torch.zeros(1, self.n_classes, self.output_size, self.output_size)
        return inputs

    def forward(self, image: Tensor, previous: Tensor | None = None) -> tuple[Tensor]:
        """See the class.

        Raises:
            BadInputError: ``previous`` for a network without it, or of another shape.
        """
        return (self.maps(image, previous)["logits"],)

    def maps(self, image: Tensor, previous: Tensor | None = None) -> dict[str, Tensor]:
        """``"logits"``, see `forward`, and a network's own maps by name."""
        raise NotImplementedError

    def checked_previous(self, image: Tensor, previous: Tensor | None) -> Tensor | None:
        """The previous probabilities, or None where there are none.

        Raises:
            BadInputError: see `forward`.
        """
        if previous is None:
            return None
        if not self.previous:
            raise BadInputError(
                "a previous mask for a network without this input", next="Set model.options: {previous: true}"
            )
        wanted = (image.shape[0], self.n_classes, self.output_size, self.output_size)
        if tuple(previous.shape) != wanted:
            raise BadInputError(f"previous: {tuple(previous.shape)}", expected=f"{wanted}")
        return previous

    def load_pretrained(self, source: str) -> None:
        """Load the weights of the pretrained part, ``model.init`` of a recipe.

        Raises:
            ConfigError: this network has no pretrained part.
        """
        raise ConfigError(
            f"model.init: {source!r} for {type(self).__name__}, which no pretrained weights exist for",
            choices=["scratch"],
        )


class PreviousInput(nn.Module):
    """The previous frame's probabilities as a summand of the stem's first convolution.

    A convolution of image and mask side by side is the sum of two convolutions; two of them need no concatenation, and
    the mask may come at another size. It begins at zero: pretrained weights see what they are used to.

    (B, C, M, M) -> (B, outputs, size, size). Masks that are larger are averaged (or, between sizes that do not divide,
    resampled) first: probabilities are smooth, and a 1 x 1 convolution of averages is nearly free.
    """

    def __init__(self, n_classes: int, outputs: int, *, output_size: int, size: int) -> None:
        super().__init__()
        self.shrink: nn.Module
        if output_size % size == 0:
            factor = output_size // size
            self.shrink = nn.AvgPool2d(factor) if factor > 1 else nn.Identity()
        else:
            self.shrink = bilinear(output_size, size)
        kernel = 3 if output_size == size else 1
        self.conv = nn.Conv2d(n_classes, outputs, kernel, padding=kernel // 2, bias=False)

    def forward(self, previous: Tensor) -> Tensor:
        mixed: Tensor = self.conv(self.shrink(previous))
        return mixed

    def start_at_zero(self) -> None:
        """Undo a general initialisation."""
        nn.init.zeros_(self.conv.weight)


def bilinear(size: int, wanted: int) -> nn.Module:
    """Bilinear resampling from ``size`` to ``wanted`` cells a side, both grids spanning the same square."""
    if size == wanted:
        return nn.Identity()
    if wanted % size == 0:
        return nn.Upsample(scale_factor=wanted // size, mode="bilinear", align_corners=False)
    return nn.Upsample(size=(wanted, wanted), mode="bilinear", align_corners=False)


def conv_bn(inputs: int, outputs: int, kernel: int = 3, *, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    """Convolution, batch norm, ReLU."""
    padding = dilation * (kernel // 2)
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


def lateral(inputs: int, outputs: int) -> nn.Sequential:
    """1 x 1 convolution and batch norm, without activation: a summand."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))


def separable(inputs: int, outputs: int, kernel: int = 3) -> nn.Sequential:
    """Depthwise convolution, batch norm, ReLU6, 1 x 1 convolution, batch norm, ReLU6."""
    return nn.Sequential(
        nn.Conv2d(inputs, inputs, kernel, padding=kernel // 2, groups=inputs, bias=False),
        nn.BatchNorm2d(inputs),
        nn.ReLU6(inplace=True),
        nn.Conv2d(inputs, outputs, 1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU6(inplace=True),
    )


class BasicBlock(nn.Module):
    """ResNet's block of two 3 x 3 convolutions (He et al. 2016), with torchvision's names.

    Args:
        inputs, outputs: channels.
        stride: of the first convolution; 2 halves the map.
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        z: Tensor = self.relu(y + self.downsample(x))
        return z


def dilate(layer: nn.Module) -> None:
    """Take the strides out of a layer that follows the last halving and double the reach of the kernels after it, in
    place (DeepLab).

    The names stay, so that weights load. The convolution that halved keeps its reach: it sees the map it always saw.
    """
    for parent in list(layer.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Conv2d) and (child.kernel_size[0] > 1 or child.stride[0] > 1):
                reach = 1 if child.stride[0] == 2 else 2
                plain = nn.Conv2d(
                    child.in_channels,
                    child.out_channels,
                    child.kernel_size[0],
                    padding=reach * (child.kernel_size[0] // 2),
                    dilation=reach,
                    groups=child.groups,
                    bias=False,
                )
                plain.weight = child.weight
                setattr(parent, name, plain)


def init_convolutions(*parts: nn.Module) -> None:
    """He normal for every convolution (a depthwise one's fan counts its own filter only), batch norm at the identity,
    previous inputs at zero.
    """
    for part in parts:
        for module in part.modules():
            if isinstance(module, nn.Conv2d):
                fan = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
                nn.init.normal_(module.weight, std=(2 / fan) ** 0.5)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for module in part.modules():
            if isinstance(module, PreviousInput):
                module.start_at_zero()


def start_undecided(head: nn.Conv2d) -> None:
    """Small weights for a last convolution: training starts near equal probabilities (or a map of zeros)."""
    nn.init.normal_(head.weight, std=1e-2)
    if head.bias is not None:
        nn.init.zeros_(head.bias)


def check_multiple(name: str, input_size: int, step: int) -> None:
    """Refuse an input size that cannot be halved as often as a network halves it.

    Raises:
        ConfigError: it is no multiple of ``step``.
    """
    if input_size < step or input_size % step:
        raise ConfigError(f"model.input_size: {input_size} for {name!r}", expected=f"a multiple of {step}")
