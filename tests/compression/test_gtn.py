"""The geometry transfer network: attention, expected places, transferred mark-ups, head pose."""

from __future__ import annotations

import math

import pytest
import torch

from pocketface.compression.models.gtn import GTN, PRIOR_SIGMA
from pocketface.compression.training.markups import derive
from pocketface.sdk.errors import ConfigError


def make(side: int = 8, channels: int = 4, n_points: int = 68) -> GTN:
    torch.manual_seed(0)
    return GTN(channels, side, n_points=n_points)


def some(head: GTN, batch: int = 2) -> torch.Tensor:
    channels = head.attention.in_channels
    return torch.randn(batch, channels, head.side, head.side, generator=torch.Generator().manual_seed(1))


def test_points_are_the_maps_centres_of_mass_at_pixel_centres():
    head = make()
    with torch.no_grad():
        head.attention.weight.mul_(200)
        maps, points = head.locate(some(head))
    torch.testing.assert_close(maps.sum((2, 3)), torch.ones(2, 68))
    slow = torch.zeros(2, 68, 2)
    for row in range(8):
        for column in range(8):
            for axis, cell in ((0, column), (1, row)):
                slow[:, :, axis] += maps[:, :, row, column] * ((cell + 0.5) / 8 - 0.5)
    torch.testing.assert_close(points, slow)


def test_attention_on_one_cell_points_at_its_centre():
    head = make(side=4, channels=1, n_points=1)
    features = torch.zeros(1, 1, 4, 4)
    features[0, 0, 1, 3] = 1
    with torch.no_grad():
        head.attention.weight.fill_(100)
        _, points = head.locate(features)
    # Column 3 of 4: (3 + 0.5) / 4 - 0.5; row 1: (1 + 0.5) / 4 - 0.5.
    torch.testing.assert_close(points[0, 0], torch.tensor([0.375, -0.125]))


def test_training_starts_at_the_mean_shape():
    head = make(side=32)
    mean = torch.rand(68, 2, generator=torch.Generator().manual_seed(2)) * 0.6 - 0.3
    before = (head(some(head)).points["68"] - mean).abs().max()
    head.set_mean_shape(mean)
    with torch.no_grad():
        found = head(some(head))
    # Not exactly: the crop's edge cuts the Gaussian, which pulls the outer points inwards.
    assert (found.points["68"] - mean).abs().max() < 0.08 < before
    torch.testing.assert_close(found.points["5"], derive(found.points["68"], "5"), atol=1e-5, rtol=0)
    torch.testing.assert_close(found.points["19"], derive(found.points["68"], "19"), atol=1e-5, rtol=0)
    assert found.pose.abs().max() < 0.2


def test_the_prior_is_a_gaussian_around_the_mean():
    head = make(side=16)
    mean = torch.full((68, 2), 1 / 32)  # the centre of cell (8, 8)
    head.set_mean_shape(mean)
    prior = head.prior.reshape(68, 16, 16)[0]
    assert prior[8, 8] == 0
    assert prior[8, 10] == pytest.approx(-((2 / 16) ** 2) / (2 * PRIOR_SIGMA**2))
    assert prior.min() >= -8


def test_a_loss_on_five_points_moves_the_attention_of_the_68():
    head = make()
    head(some(head)).points["5"].square().sum().backward()
    moved = head.attention.weight.grad.flatten(1).abs().sum(1) > 0
    assert moved.nonzero()[:, 0].tolist() == [30, *range(36, 49), 54]


def test_pose_depends_on_the_points_and_on_the_features():
    head = make()
    features, points = some(head), torch.zeros(2, 68, 2)
    base = head.angles(features, points)
    assert base.shape == (2, 3)
    assert not torch.equal(base, head.angles(features, points + 0.3))
    assert not torch.equal(base, head.angles(features + 0.3, points))


def test_another_first_mark_up_has_no_transfer():
    found = make(n_points=5)(some(make(n_points=5)))
    assert list(found.points) == ["5"]
    assert found.points["5"].shape == (2, 5, 2)


def test_bad_input_is_refused():
    with pytest.raises(ConfigError, match="side 0"):
        GTN(4, 0)
    with pytest.raises(ConfigError, match=r"\(67, 2\)"):
        make().set_mean_shape(torch.zeros(67, 2))
    with pytest.raises(ConfigError, match="finite"):
        make().set_mean_shape(torch.full((68, 2), math.nan))
