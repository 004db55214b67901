"""Kernels that slide windows or sample pictures: convolutions, pooling, resizing, against torch."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pocketface.converters.mil_reference.kernels.registry import KERNELS
from pocketface.converters.mil_reference.kernels.resize import grid

RNG = np.random.default_rng(8)
X = RNG.normal(size=(2, 6, 9, 8)).astype(np.float32)


def t(array: Any) -> torch.Tensor:
    return torch.from_numpy(np.array(array))


def agree(got: Any, want: Any, tolerance: float = 2e-6) -> None:
    """The same shape, and values within a share of the largest."""
    want = np.asarray(want)
    assert np.shape(got) == want.shape
    assert np.abs(np.asarray(got, np.float64) - want).max() <= tolerance * max(1.0, float(np.abs(want).max()))


CONVS = [
    # channels, filters, kernel, stride, dilation, groups
    (6, 8, (1, 1), (1, 1), (1, 1), 1),
    (6, 8, (1, 1), (2, 2), (1, 1), 2),
    (6, 8, (3, 3), (1, 1), (1, 1), 1),
    (6, 9, (3, 2), (2, 1), (1, 2), 3),
    (6, 6, (3, 3), (1, 1), (1, 1), 6),
    (6, 12, (5, 3), (2, 3), (1, 2), 6),
    (6, 4, (3, 3), (1, 1), (3, 2), 2),
]


@pytest.mark.parametrize(("channels", "filters", "kernel", "stride", "dilation", "groups"), CONVS)
@pytest.mark.parametrize("pad", [(0, 0, 0, 0), (2, 1, 0, 3)])
def test_convolutions_agree_with_torch(channels, filters, kernel, stride, dilation, groups, pad):
    weight = RNG.normal(size=(filters, channels // groups, *kernel)).astype(np.float32)
    bias = RNG.normal(size=filters).astype(np.float32)
    got = KERNELS["conv"](X, weight, bias, stride, "custom", np.int32(pad), dilation, np.int32(groups))
    padded = F.pad(t(X), (pad[2], pad[3], pad[0], pad[1]))
    agree(got, F.conv2d(padded, t(weight), t(bias), stride, 0, dilation, groups))


@pytest.mark.parametrize("dimensions", [1, 3])
def test_convolutions_in_other_dimensions_agree_with_torch(dimensions):
    x = RNG.normal(size=(2, 4, 7, 6, 5)[: dimensions + 2]).astype(np.float32)
    weight = RNG.normal(size=(6, 2, 3, 2, 2)[: dimensions + 2]).astype(np.float32)
    got = KERNELS["conv"](x, weight, groups=2)
    agree(got, getattr(F, f"conv{dimensions}d")(t(x), t(weight), groups=2))


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (4, 1), (3, 2), (4, 2), (2, 3), (5, 3)])
def test_same_padding_gives_the_outputs_of_a_slow_loop(kernel, stride):
    """TensorFlow's rule, written from its definition: as many outputs as strides fit, the odd element behind."""
    weight = RNG.normal(size=(1, 1, kernel)).astype(np.float32)
    x = RNG.normal(size=(1, 1, 10)).astype(np.float32)
    outputs = math.ceil(10 / stride)
    total = max(0, (outputs - 1) * stride + kernel - 10)
    for kind, before in (("same", total // 2), ("same_lower", total - total // 2)):
        wanted = [
            sum(
                weight[0, 0, tap] * x[0, 0, place * stride - before + tap]
                for tap in range(kernel)
                if 0 <= place * stride - before + tap < 10
            )
            for place in range(outputs)
        ]
        agree(KERNELS["conv"](x, weight, strides=[stride], pad_type=kind)[0, 0], wanted)


def test_same_padding_of_stride_1_agrees_with_torch():
    weight = RNG.normal(size=(4, 6, 3, 5)).astype(np.float32)
    got = KERNELS["conv"](X, weight, pad_type="same", dilations=(2, 1))
    agree(got, F.conv2d(t(X), t(weight), padding="same", dilation=(2, 1)))


def test_convolutions_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="channels and weights"):
        KERNELS["conv"](X, np.zeros((4, 5, 1, 1), np.float32))
    with pytest.raises(ValueError, match="does not fit"):
        KERNELS["conv"](X, np.zeros((4, 6, 11, 1), np.float32))
    with pytest.raises(ValueError, match="valid, custom, same, same_lower"):
        KERNELS["conv"](X, np.zeros((4, 6, 1, 1), np.float32), pad_type="full")


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation", "groups", "extra"),
    [
        (2, 2, 0, 1, 1, 0),
        (4, 2, 1, 1, 1, 0),
        (3, 2, 1, 1, 2, 1),
        (3, 1, 1, 2, 1, 0),
        (3, 3, 2, 2, 6, 2),
        (2, 3, 0, 1, 3, 0),
    ],
)
def test_transposed_convolutions_agree_with_torch(kernel, stride, padding, dilation, groups, extra):
    weight = RNG.normal(size=(6, 4, kernel, kernel)).astype(np.float32)
    bias = RNG.normal(size=4 * groups).astype(np.float32)
    wanted = F.conv_transpose2d(t(X), t(weight), t(bias), stride, padding, extra, groups, dilation)
    options = {"strides": [stride] * 2, "dilations": [dilation] * 2, "groups": np.int32(groups), "bias": bias}
    options |= {"pad_type": "custom", "pad": [padding] * 4}
    agree(KERNELS["conv_transpose"](X, weight, **options, output_shape=np.array(wanted.shape)), wanted)
    if extra == 0:
        agree(KERNELS["conv_transpose"](X, weight, **options), wanted)


@pytest.mark.parametrize(("kernel", "stride"), [(4, 2), (3, 2), (2, 2)])
def test_same_padding_of_a_transposed_convolution_multiplies_the_sides(kernel, stride):
    weight = RNG.normal(size=(6, 4, kernel, kernel)).astype(np.float32)
    full = F.conv_transpose2d(t(X), t(weight), None, stride)
    start = (kernel - stride) // 2
    wanted = full[..., start : start + 9 * stride, start : start + 8 * stride]
    agree(KERNELS["conv_transpose"](X, weight, pad_type="same", strides=[stride] * 2), wanted)


POOLS = list(itertools.product([(2, 2), (3, 2), (3, 3)], [(2, 2), (1, 3)], [0, 1], [False, True]))


@pytest.mark.parametrize(("kernel", "stride", "padding", "ceil"), POOLS)
def test_pooling_agrees_with_torch(kernel, stride, padding, ceil):
    options: dict[str, Any] = {"strides": stride, "pad_type": "custom", "pad": [padding] * 4, "ceil_mode": ceil}
    got = KERNELS["max_pool"](X, kernel, **options)
    agree(got, F.max_pool2d(t(X), kernel, stride, padding, ceil_mode=ceil))
    for included in (True, False):
        got = KERNELS["avg_pool"](X, kernel, exclude_padding_from_average=not included, **options)
        agree(got, F.avg_pool2d(t(X), kernel, stride, padding, ceil, included))
    got = KERNELS["l2_pool"](X, kernel, **options)
    squares = F.avg_pool2d(t(X) ** 2, kernel, stride, padding, ceil, divisor_override=1)
    agree(got, torch.sqrt(squares))


SIZES = [(18, 16), (27, 24), (5, 20), (9, 8), (13, 3)]


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_resizing_agrees_with_torch(height, width):
    size = (height, width)
    for mode, corners in (("STRICT_ALIGN_CORNERS", True), ("UNALIGN_CORNERS", False)):
        wanted = F.interpolate(t(X), size, mode="bilinear", align_corners=corners)
        agree(KERNELS["resize_bilinear"](X, np.int32(height), np.int32(width), mode), wanted)
        agree(KERNELS["resize"](X, np.int32([1, *size]), np.uint32(2), "LINEAR", mode), wanted)
        factors = np.float32(height / 9), np.float32(width / 8)
        if all(math.floor(factor * side) == wish for factor, side, wish in zip(factors, (9, 8), size, strict=True)):
            agree(KERNELS["upsample_bilinear"](X, *factors, np.bool_(corners)), wanted)
    wanted = F.interpolate(t(X), size, mode="nearest")
    agree(KERNELS["resize_nearest_neighbor"](X, np.int32(height), np.int32(width)), wanted)
    agree(KERNELS["resize"](X, np.int32(size), np.uint32(2), "NEAREST_NEIGHBOR"), wanted)


def test_upsampling_by_factors_agrees_with_torch():
    wanted = F.interpolate(t(X), scale_factor=2, mode="nearest")
    agree(KERNELS["upsample_nearest_neighbor"](X, np.int32(2), np.int32(2)), wanted)
    wanted = F.interpolate(t(X), scale_factor=(2.5, 3.0), mode="bilinear", recompute_scale_factor=True)
    factors, no, yes = (np.float32(2.5), np.float32(3.0)), np.bool_(False), np.bool_(True)
    agree(KERNELS["upsample_bilinear"](X, *factors, no), wanted)
    agree(KERNELS["upsample_bilinear"](X, *factors, no, yes), wanted)
    plain = KERNELS["resize_bilinear"](X, np.int32(22), np.int32(24), "DEFAULT")
    agree(KERNELS["upsample_bilinear"](X, *factors, no, no), plain)
    with pytest.raises(ValueError, match="exclude each other"):
        KERNELS["upsample_bilinear"](X, *factors, yes, yes)


@pytest.mark.parametrize(
    ("mode", "outputs", "wanted"),
    [
        ("UNALIGN_CORNERS", 5, [0.0, 0.1, 0.5, 0.9, 1.0]),
        ("STRICT_ALIGN_CORNERS", 5, [0.0, 0.25, 0.5, 0.75, 1.0]),
        ("DEFAULT", 5, [0.0, 0.4, 0.8, 1.0, 1.0]),
        ("OFFSET_CORNERS", 5, [0.1, 0.3, 0.5, 0.7, 0.9]),
        ("DEFAULT", 6, [0.0, 1 / 3, 2 / 3, 1.0, 1.0, 1.0]),
        ("OFFSET_CORNERS", 6, [1 / 12, 0.25, 5 / 12, 7 / 12, 0.75, 11 / 12]),
        ("ALIGN_CORNERS", 1, [0.5]),
        ("STRICT_ALIGN_CORNERS", 1, [0.0]),
    ],
)
def test_sampling_places_are_those_of_the_mil_documentation(mode, outputs, wanted):
    agree(grid(2, outputs, mode), wanted)


@pytest.mark.parametrize("padding", ["zeros", "border"])
@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
@pytest.mark.parametrize("corners", [True, False])
def test_resampling_agrees_with_torch(padding, mode, corners):
    places = RNG.uniform(-1.3, 1.3, size=(2, 5, 4, 2)).astype(np.float32)
    wanted = F.grid_sample(t(X), t(places), mode, padding, corners)
    border = "constant" if padding == "zeros" else padding
    for values, kind in ((places, "normalized_minus_one_to_one"), ((places + 1) / 2, "normalized_zero_to_one")):
        got = KERNELS["resample"](X, values, mode, border, np.float32(0), kind, np.bool_(corners))
        agree(got, wanted, 1e-5)
