"""ResNet-18's convolutions (He et al. 2016), with torchvision's parameter names, so that its ImageNet weights load."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from pocketface.compression.models.heads import IMAGENET_MEAN, IMAGENET_STD
from pocketface.compression.models.segment_blocks import BasicBlock, dilate, init_convolutions
from pocketface.compression.models.weights import LoadReport, copy_tensors, read_tensors
from pocketface.sdk.errors import ConfigError

CHANNELS = (64, 128, 256, 512)


class ResNet18(nn.Module):
    """A trunk (see trunks.py): the maps at 1/2, 1/4, 1/8, 1/16 and 1/32 of the input's side, finest first.

    Args:
        input_size: S, pixels; not looked at: its padding is the same at every size.
        output_stride: 32, or 16: the last stage then keeps its map's size and is dilated instead (DeepLab).
    """

    mean, std = IMAGENET_MEAN, IMAGENET_STD
    stem_channels = 64
    channels = (64, *CHANNELS)

    def __init__(self, *, input_size: int = 224, output_stride: int = 32) -> None:
        super().__init__()
        self.strides = (2, 4, 8, 16, output_stride)
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        a, b, c, d = CHANNELS
        self.layer1 = nn.Sequential(BasicBlock(64, a), BasicBlock(a, a))
        self.layer2 = nn.Sequential(BasicBlock(a, b, 2), BasicBlock(b, b))
        self.layer3 = nn.Sequential(BasicBlock(b, c, 2), BasicBlock(c, c))
        self.layer4 = nn.Sequential(BasicBlock(c, d, 2), BasicBlock(d, d))
        if output_stride == 16:
            dilate(self.layer4)
        init_convolutions(self)

    def forward(self, image: Tensor, extra: Tensor | None = None) -> list[Tensor]:
        """(B, 3, S, S) -> five maps; ``extra`` (B, 64, S/2, S/2) is added to what the first convolution gives."""
        x = self.conv1(image)
        if extra is not None:
            x = x + extra
        found = [self.relu(self.bn1(x))]
        x = self.maxpool(found[0])
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
            found.append(x)
        return found

    def load(self, source: str) -> LoadReport:
        """Copy the weights of a checkpoint file with torchvision's names; its classifier (``fc``) is left.

        Raises:
            ConfigError: ``"package"``: no package has weights for it.
            WeightsError: the file is unreadable or does not fit; nothing is changed.
        """
        if source == "package":
            raise ConfigError(
                "model.init: 'package', but no package has weights for resnet18",
                choices=["scratch", "the path of a checkpoint file"],
                next="Or set model.options: {trunk: efficientnet_lite0}, which has a package",
            )
        path, tensors = Path(source), read_tensors(Path(source))
        ignored = tuple(name for name in tensors if name.startswith("fc."))
        given = {name: tensor for name, tensor in tensors.items() if name not in ignored}
        return LoadReport(path, copy_tensors(path, given, self.state_dict()), ignored)
