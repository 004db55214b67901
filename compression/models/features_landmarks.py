"""A landmark cascade as the feature network of eqs 5 and 6: what stage LE needs to see in a picture.

The paper takes a network that was trained on faces (VGG-Face) because its features "are more adapted to detect subtle
discriminative face patterns" than ImageNet's. The run's own landmark teacher is such a network, comes without foreign
weights, and looks for the very patterns that the next stage looks for. Its maps are those before and after the first
hourglass; the last layer, eq 6's, is the 68 points that it finds.
"""

from __future__ import annotations

from torch import Tensor, nn

from pocketface.compression.models.acdc import Cascade
from pocketface.compression.models.features import Features
from pocketface.sdk.errors import ConfigError

TYPICAL = 0.8
"""Root mean square of the maps' values on faces: divided by it, a lambda means what it means for other networks."""
POINTS = 50.0
"""Points are given in units of 2 % of the crop's side, about the error of a landmark in a bad picture."""


class LandmarkFeatures(nn.Module):
    """The first stage of a cascade. Frozen: no gradient into its weights, and evaluation mode for ever.

    ``forward`` takes (B, 3, S, S) float32 RGB in [0, 1], S the cascade's input size, and gives `Features`; the
    embedding is (B, 136).

    Args:
        net: a trained landmark teacher.

    Raises:
        ConfigError: a network that is no cascade.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        if not isinstance(net, Cascade):
            raise ConfigError(
                f"features of a {type(net).__name__}",
                expected="a landmark cascade (model acdc)",
                next="Name another feature network in uniformize.features",
            )
        self.net = net
        self.input_size = net.input_size
        self._level, self._scale = (values[0] for values in (net.mean, net.std))
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> LandmarkFeatures:
        """Evaluation mode whatever is asked: its batch norm must not follow the pictures it compares."""
        return super().train(False)

    def forward(self, pictures: Tensor) -> Features:
        """See the class."""
        stem = self.net.stem((255 * pictures - self._level) / self._scale)
        seen = self.net.nets[0](stem)
        points = self.net.gtn[0](seen).points[str(self.net.n_points)]
        return Features((stem / TYPICAL, seen / TYPICAL), POINTS * points.flatten(1))
