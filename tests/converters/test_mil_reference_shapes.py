"""Kernels that move values about: against torch, or numpy written another way."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pocketface.converters.mil_reference.kernels.registry import KERNELS

X = np.arange(2 * 12 * 6 * 4, dtype=np.float32).reshape(2, 12, 6, 4)
ROWS = np.arange(24, dtype=np.float32).reshape(4, 6)


def t(array):
    return torch.from_numpy(np.array(array))


def same(got, want):
    assert np.array_equal(np.asarray(got), np.asarray(want))


def test_reshapes_follow_the_mil_rules():
    reshape = KERNELS["reshape"]
    assert reshape(X, np.int32([2, -1, 8])).shape == (2, 36, 8)
    assert reshape(X, np.int32([0, 0, -1])).shape == (12, 6, 8)  # zeros are counted from the last side
    assert reshape(X, np.int32([0, 0, 0, -1])).shape == (2, 12, 6, 4)
    assert KERNELS["flatten2d"](X, np.int32(2)).shape == (24, 24)
    assert KERNELS["flatten2d"](X, np.int32(-1)).shape == (144, 4)
    like = KERNELS["reshape_like"](X, (X, np.zeros((3, 8, 3))), (0, 1), (2, 0), (np.bool_(False), np.bool_(True)))
    assert like.shape == (2, 12, 8, 3)
    with pytest.raises(ValueError, match="cannot reshape"):
        reshape(X, np.int32([5, 5]))


def test_sides_of_1_come_and_go_as_in_torch():
    assert KERNELS["expand_dims"](ROWS, np.int32([0, -1])).shape == (1, 4, 6, 1)
    x = np.zeros((1, 3, 1, 2))
    assert KERNELS["squeeze"](x).shape == (3, 2)
    assert KERNELS["squeeze"](x, np.int32([-2, 1])).shape == (1, 3, 2)  # a side of 3 stays
    same(KERNELS["transpose"](X, np.int32([0, 2, 3, 1])), t(X).permute(0, 2, 3, 1))
    assert KERNELS["shape"](X).tolist() == [2, 12, 6, 4]


def test_joining_and_cutting_agree_with_torch():
    same(KERNELS["concat"]((X, X + 1, X), np.int32(-3)), torch.cat([t(X), t(X + 1), t(X)], 1))
    same(KERNELS["stack"]((X, X + 1), np.int32(-1)), torch.stack([t(X), t(X + 1)], -1))
    pair = np.int32([[1, 2], [3, 4]]), np.int32([[7, 8], [9, 10]])
    wanted = [[1, 2], [7, 8], [3, 4], [9, 10]]
    same(KERNELS["concat"](pair, np.int32(0), np.bool_(True)), wanted)
    for got, want in zip(KERNELS["split"](X, np.int32(1), np.int32(3)), t(X).chunk(3, 1), strict=True):
        same(got, want)
    sizes = KERNELS["split"](X, np.int32(-2), split_sizes=np.int32([1, 3, 2]))
    for got, want in zip(sizes, t(X).split([1, 3, 2], -2), strict=True):
        same(got, want)
    with pytest.raises(ValueError, match="of a side of 6"):
        KERNELS["split"](X, np.int32(2), split_sizes=np.int32([1, 3]))
    same(KERNELS["tile"](ROWS, np.int32([2, 3])), t(ROWS).tile(2, 3))
    same(KERNELS["reverse"](X, np.int32([1, -1])), t(X).flip(1, -1))
    same(KERNELS["reverse"](ROWS), t(ROWS).flip(0, 1))


@pytest.mark.parametrize(
    ("mode", "name"), [("constant", "constant"), ("reflect", "reflect"), ("replicate", "replicate")]
)
def test_padding_agrees_with_torch(mode, name):
    value = {"constant_val": np.float32(7)} if mode == "constant" else {}
    got = KERNELS["pad"](X, np.int32([1, 0, 3, 2]), mode, **value)
    same(got, F.pad(t(X), (3, 2, 1, 0), name, *([7.0] if value else [])))


def test_pixels_and_channels_change_places_as_in_torch():
    same(KERNELS["pixel_shuffle"](X, np.int32(2)), F.pixel_shuffle(t(X), 2))
    same(KERNELS["pixel_unshuffle"](X, np.uint32(2)), F.pixel_unshuffle(t(X), 2))
    # TensorFlow's order: the channel varies fastest, then the column, then the row of the block.
    got = KERNELS["depth_to_space"](X, np.int32(2))
    for row, column, channel in ((0, 0, 0), (0, 1, 2), (1, 0, 1), (1, 1, 2)):
        same(got[:, channel, row::2, column::2], X[:, (row * 2 + column) * 3 + channel])
    same(KERNELS["space_to_depth"](got, np.int32(2)), X)


def test_windows_and_bands_agree_with_torch():
    same(KERNELS["sliding_windows"](X, np.int32(2), np.int32(3), np.int32(2)), t(X).unfold(2, 3, 2).movedim(-1, 3))
    same(KERNELS["band_part"](ROWS, np.int32(-1), np.int32(0)), t(ROWS).tril())
    same(KERNELS["band_part"](ROWS, np.int32(1), np.int32(2)), t(ROWS).tril(2).triu(-1))


def test_made_tensors_agree_with_torch():
    same(KERNELS["fill"](np.int32([2, 3]), np.float32(4)), torch.full((2, 3), 4.0))
    same(KERNELS["fill_like"](ROWS, np.int32(4)), torch.full((4, 6), 4))
    same(KERNELS["range_1d"](np.int32(2), np.int32(11), np.int32(3)), torch.arange(2, 11, 3))
    indices = np.int32([[0, 2, 1]])
    same(KERNELS["one_hot"](indices, np.int32(4)), F.one_hot(t(indices).long(), 4))
    got = KERNELS["one_hot"](indices, np.int32(4), np.int32(1), np.float32(5), np.float32(-1))
    same(got, F.one_hot(t(indices).long(), 4).movedim(-1, 1) * 6.0 - 1)
    same(KERNELS["non_zero"](ROWS % 5 > 3), torch.nonzero(t(ROWS % 5 > 3)))


def test_slices_agree_with_numpy():
    got = KERNELS["slice_by_index"](X, [0, 2, 5, -1], [2, 9, 0, 0], [1, 3, -2, 1], None, [0, 0, 1, 0], [0, 0, 0, 1])
    same(got, X[:, 2:9:3, 5::-2, -1])
    same(KERNELS["slice_by_index"](ROWS, [1, 1], [3, 5], begin_mask=[1, 0]), ROWS[:3, 1:5])
    same(KERNELS["slice_by_size"](ROWS, [1, -4], [2, -1]), ROWS[1:3, 2:])
    wanted = ROWS.copy()
    wanted[1:3, ::2] = 9
    got = KERNELS["slice_update"](ROWS, np.full((2, 3), 9, np.float32), [1, 0], [3, 6], [1, 2])
    same(got, wanted)
    assert ROWS[1, 0] == 6  # what it was given did not change
    same(KERNELS["crop"](X, np.int32([1, 2]), np.int32([0, 3])), X[..., 1:4, :1])


def test_gathering_agrees_with_torch():
    places = np.int32([[3, 0], [1, 1]])
    same(KERNELS["gather"](ROWS, places, np.int32(1)), ROWS[:, places])
    same(KERNELS["gather"](ROWS, np.int32(2), np.int32(-2)), ROWS[2])
    same(KERNELS["gather"](X, np.int32([-1]), np.int32(1)), X[:, -1:])
    batched = KERNELS["gather"](ROWS, np.int32([[0, 5], [1, 1], [2, 0], [3, 3]]), np.int32(1), np.int32(1))
    same(batched, torch.gather(t(ROWS), 1, torch.tensor([[0, 5], [1, 1], [2, 0], [3, 3]])))
    along = np.argsort(-ROWS, 0).astype(np.int32)
    same(KERNELS["gather_along_axis"](ROWS, along, np.int32(0)), torch.gather(t(ROWS), 0, t(along).long()))
    same(KERNELS["gather_nd"](X, np.int32([[1, 2], [0, 3]])), X[[1, 0], [2, 3]])
    same(KERNELS["gather_nd"](ROWS, np.int32([[5], [0], [1], [2]]), np.int32(1)), ROWS[range(4), [5, 0, 1, 2]])
    with pytest.raises(IndexError):
        KERNELS["gather"](ROWS, np.int32([6]), np.int32(1))


@pytest.mark.parametrize(
    ("mode", "reduce"), [("update", None), ("add", "sum"), ("mul", "prod"), ("max", "amax"), ("min", "amin")]
)
def test_scattering_agrees_with_torch(mode, reduce):
    places = np.int32([[0, 1, 2, 3, 0, 1], [2, 3, 1, 0, 3, 2]])
    updates = (np.arange(12, dtype=np.float32) - 5).reshape(2, 6)
    got = KERNELS["scatter_along_axis"](ROWS, places, updates, np.int32(0), mode)
    index = t(places).long()
    if reduce is None:
        same(got, t(ROWS).scatter(0, index, t(updates)))
    else:
        same(got, t(ROWS).scatter_reduce(0, index, t(updates), reduce))


def test_scattering_adds_up_at_repeated_places():
    got = KERNELS["scatter"](ROWS, np.int32([1, 1]), np.ones((4, 2), np.float32), np.int32(1), "add")
    same(got, ROWS + np.eye(6, dtype=np.float32)[1] * 2)
    got = KERNELS["scatter_nd"](ROWS, np.int32([[0, 1], [0, 1], [3, 5]]), np.float32([1, 2, 4]), "sub")
    wanted = ROWS.copy()
    wanted[0, 1] -= 3
    wanted[3, 5] -= 4
    same(got, wanted)
    data = KERNELS["scatter"](np.int32([[1, 2, 3], [4, 5, 6]]), np.int32([1, 0]), np.int32([[5, 6, 7], [8, 9, 10]]))
    same(data, [[9, 11, 13], [9, 11, 13]])  # the example of the MIL documentation
