"""Shape model and soft landmarks (KD paper, eqs 1-3) against numpy's covariance, a slow loop, shapes made by hand."""

import errno
import itertools
import os

import numpy as np
import pytest
import torch

from pocketface.compression.shape.asm import ShapeModel
from pocketface.sdk.errors import BadInputError, ConfigError, EnvironmentProblemError

N_POINTS = 10


@pytest.fixture(scope="module")
def shapes():
    """400 shapes of 10 points with 20 correlated variations of falling size, within [-0.5, 0.5]."""
    random = np.random.default_rng(0)
    mixing = random.normal(size=(20, 20)) * np.geomspace(0.05, 0.001, 20)[:, None]
    mean = random.uniform(-0.3, 0.3, 20)
    return (mean + random.normal(size=(400, 20)) @ mixing).reshape(400, N_POINTS, 2).clip(-0.5, 0.5)


@pytest.fixture(scope="module")
def model(shapes):
    return ShapeModel.fit(shapes)


def slow_soften(train, shape, share):
    """Eqs 1 to 3 for one shape, mode by mode, from numpy's own SVD of the covariance matrix."""
    flat = train.reshape(len(train), -1)
    mean = flat.mean(0)
    vectors, variances, _ = np.linalg.svd(np.cov(flat.T))
    modes = min(len(train) - 1, flat.shape[1])
    soft = mean.copy()
    for i in range(round(share * modes)):
        b = sum(vectors[j, i] * (shape.ravel()[j] - mean[j]) for j in range(len(mean)))
        limit = 3 * variances[i] ** 0.5
        soft += vectors[:, i] * min(max(b, -limit), limit)
    return soft.reshape(shape.shape)


def test_fit_matches_numpys_covariance(shapes, model):
    flat = shapes.reshape(400, -1)
    values, vectors = np.linalg.eigh(np.cov(flat.T))
    np.testing.assert_allclose(model.mean.ravel(), flat.mean(0), atol=1e-15)
    np.testing.assert_allclose(model.eigenvalues, values[::-1], rtol=1e-9)
    # The same directions, up to sign.
    np.testing.assert_allclose(np.abs(model.eigenvectors.T @ vectors[:, ::-1]), np.eye(20), atol=1e-6)


def test_sign_of_an_eigenvector_does_not_depend_on_the_order_of_the_faces(shapes):
    """Every LAPACK chooses its own; the largest entry is made positive."""
    for some in (shapes, shapes[:8], shapes[:2]):
        for other in (some[::-1], np.roll(some, 1, axis=0)):
            np.testing.assert_allclose(ShapeModel.fit(other).eigenvectors, ShapeModel.fit(some).eigenvectors, atol=1e-6)


def test_eigenvalues_are_the_variances_of_the_parameters(shapes, model):
    """The paper: lambda_i is the statistical variance of the i-th parameter of b."""
    b = (shapes - model.mean).reshape(400, -1) @ model.eigenvectors
    np.testing.assert_allclose(b.var(axis=0, ddof=1), model.eigenvalues, rtol=1e-9)
    np.testing.assert_allclose(np.corrcoef(b.T), np.eye(20), atol=1e-9)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 1.0])
def test_soften_matches_a_slow_loop(shapes, model, share):
    random = np.random.default_rng(1)
    new = np.concatenate([shapes[:5], shapes[:5] + random.normal(scale=0.1, size=(5, N_POINTS, 2))])
    expected = np.stack([slow_soften(shapes, shape, share) for shape in new])
    np.testing.assert_allclose(model.soften(new, share), expected, atol=1e-10)


def test_fewer_shapes_than_coordinates(shapes):
    few = shapes[:8]
    model = ShapeModel.fit(few)
    assert model.eigenvalues.shape == (7,)
    assert model.eigenvectors.shape == (20, 7)
    np.testing.assert_allclose(model.eigenvectors.T @ model.eigenvectors, np.eye(7), atol=1e-12)
    np.testing.assert_allclose(
        model.soften(few, 1.0), few, atol=1e-12
    )  # 8 shapes stay within 3 sigma, and span themselves
    for share in (0.5, 1.0):
        np.testing.assert_allclose(model.soften(few, share)[0], slow_soften(few, few[0], share), atol=1e-10)


def test_two_shapes_by_hand():
    """Points (0, 0) and (x, 0), x = 0.1 and 0.3: mean 0.2, variance 0.02 (divisor N - 1), along the last x only."""
    pair = np.array([[[0, 0], [0.1, 0]], [[0, 0], [0.3, 0]]])
    model = ShapeModel.fit(pair)
    np.testing.assert_allclose(model.mean, [[0, 0], [0.2, 0]])
    np.testing.assert_allclose(model.eigenvalues, [0.02])
    np.testing.assert_allclose(model.eigenvectors[:, 0], [0, 0, 1, 0], atol=1e-15)
    # 0.2 + 3 * sqrt(0.02) is as far as it goes; what is off the line is lost.
    soft = model.soften(np.array([[0.1, -0.2], [0.9, 0.3]]))
    np.testing.assert_allclose(soft, [[0, 0], [0.2 + 3 * 0.02**0.5, 0]], atol=1e-15)


def test_no_procrustes_alignment():
    """Shapes that differ by a shift alone: it is their variation, of variance n * var(shift), and is kept."""
    random = np.random.default_rng(2)
    shift = random.uniform(-0.1, 0.1, 50)
    base = random.uniform(-0.3, 0.3, (N_POINTS, 2))
    shifted = base + np.stack([shift, np.zeros(50)], -1)[:, None]
    model = ShapeModel.fit(shifted)
    np.testing.assert_allclose(model.eigenvalues, [N_POINTS * shift.var(ddof=1)])
    np.testing.assert_allclose(model.soften(shifted), shifted, atol=1e-12)


def test_exact_with_every_eigenvector_within_three_sigma(model):
    b = np.random.default_rng(3).uniform(-2.99, 2.99, (50, 20)) * np.sqrt(model.eigenvalues)
    inside = model.mean + (b @ model.eigenvectors.T).reshape(-1, N_POINTS, 2)
    np.testing.assert_allclose(model.soften(inside, 1.0), inside, atol=1e-12)


def test_clipped_at_three_sigma(model):
    for mode, sigmas in ((0, 5.0), (0, -5.0), (7, 100.0)):
        direction = (model.eigenvectors[:, mode] * np.sqrt(model.eigenvalues[mode])).reshape(N_POINTS, 2)
        soft = model.soften(model.mean + sigmas * direction)
        np.testing.assert_allclose(soft, model.mean + np.sign(sigmas) * 3 * direction, atol=1e-12)


def test_share_counts_eigenvectors_not_variance(model):
    """0.90 of 20 eigenvectors are 18, however little of the variance the last two hold."""
    assert model.count(0.9) == 18
    step = np.sqrt(model.eigenvalues)
    for mode, kept in ((16, True), (17, True), (18, False), (19, False)):
        shape = model.mean + (model.eigenvectors[:, mode] * step[mode]).reshape(N_POINTS, 2)
        np.testing.assert_allclose(model.soften(shape), shape if kept else model.mean, atol=1e-12)
    assert model.count(1.0) == 20
    assert model.count(0.001) == 1


def test_moves_towards_the_mean_as_the_share_falls(shapes, model):
    distances = [
        np.linalg.norm(model.soften(shapes, share) - model.mean, axis=(1, 2)) for share in (0.05, 0.2, 0.5, 0.9, 1.0)
    ]
    for less, more in itertools.pairwise(distances):
        assert (less <= more + 1e-12).all()
        assert less.mean() < more.mean()
    assert (distances[-1] <= np.linalg.norm(shapes - model.mean, axis=(1, 2)) + 1e-12).all()


def test_softening_twice_changes_nothing_more(shapes, model):
    soft = model.soften(shapes)
    assert np.abs(soft - shapes).max() > 1e-3
    np.testing.assert_allclose(model.soften(soft), soft, atol=1e-12)


def test_one_shape_and_nested_batches(shapes, model):
    soft = model.soften(shapes[:6])
    np.testing.assert_allclose(model.soften(shapes[0]), soft[0], atol=1e-14)
    np.testing.assert_allclose(model.soften(shapes[:6].reshape(2, 3, N_POINTS, 2)), soft.reshape(2, 3, N_POINTS, 2))
    assert model.soften(shapes[:0]).shape == (0, N_POINTS, 2)
    assert model.soften(shapes.astype(np.float32)).dtype == np.float32


class TestTensorTwin:
    @pytest.mark.parametrize("share", [0.3, 0.9, 1.0])
    @pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-13)])
    def test_equals_numpy(self, shapes, model, share, dtype, tolerance):
        wide = model.mean + 3 * (shapes - model.mean)  # so that clipping is at work
        soft = model.soften_tensor(torch.tensor(wide, dtype=dtype), share)
        assert soft.dtype == dtype
        np.testing.assert_allclose(soft.numpy(), model.soften(wide, share), atol=tolerance)

    def test_autocast_does_not_lower_the_precision(self, shapes, model):
        points = torch.tensor(shapes, dtype=torch.float32)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            soft = model.soften_tensor(points)
        assert torch.equal(soft, model.soften_tensor(points))

    def test_half_precision_gives_float32(self, shapes, model):
        half = torch.tensor(shapes, dtype=torch.float16)
        soft = model.soften_tensor(half)
        assert soft.dtype == torch.float32
        np.testing.assert_allclose(soft.numpy(), model.soften(half.double().numpy()), atol=1e-6)

    def test_another_share_is_not_answered_from_the_cache(self, shapes):
        model = ShapeModel.fit(shapes)
        points = torch.tensor(shapes)
        for share in (0.5, 0.9, 0.5):
            np.testing.assert_allclose(
                model.soften_tensor(points, share).numpy(), model.soften(shapes, share), atol=1e-13
            )

    def test_wrong_number_of_landmarks(self, model):
        with pytest.raises(BadInputError, match=r"\(2, 9, 2\), expected \(..., 10, 2\)"):
            model.soften_tensor(torch.zeros(2, 9, 2))


class TestFile:
    def test_round_trip(self, model, shapes, tmp_path):
        path = tmp_path / "shape.npz"
        model.save(path)
        again = ShapeModel.load(path)
        for name in ("mean", "eigenvectors", "eigenvalues"):
            assert np.array_equal(getattr(again, name), getattr(model, name))
        assert np.array_equal(again.soften(shapes), model.soften(shapes))
        assert [p.name for p in tmp_path.iterdir()] == ["shape.npz"]

    def test_same_data_same_bytes(self, shapes, tmp_path):
        for name in ("a", "b"):
            ShapeModel.fit(shapes).save(tmp_path / name)
        assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()

    def test_holds_no_pickle(self, model, tmp_path):
        model.save(tmp_path / "m.npz")
        with np.load(tmp_path / "m.npz", allow_pickle=False) as file:
            assert sorted(file) == ["eigenvalues", "eigenvectors", "mean", "schema"]
            assert all(file[name].dtype != object for name in file)

    def test_missing_file(self, tmp_path):
        with pytest.raises(BadInputError, match=r"none\.npz: no such shape model"):
            ShapeModel.load(tmp_path / "none.npz")

    @pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 cut off"])
    def test_broken_file(self, content, tmp_path):
        (tmp_path / "m.npz").write_bytes(content)
        with pytest.raises(BadInputError, match="not a shape model"):
            ShapeModel.load(tmp_path / "m.npz")

    def test_truncated_file(self, model, tmp_path):
        model.save(tmp_path / "m.npz")
        whole = (tmp_path / "m.npz").read_bytes()
        (tmp_path / "m.npz").write_bytes(whole[: len(whole) // 2])
        with pytest.raises(BadInputError, match="not a shape model"):
            ShapeModel.load(tmp_path / "m.npz")

    def test_altered_byte(self, model, tmp_path):
        model.save(tmp_path / "m.npz")
        content = bytearray((tmp_path / "m.npz").read_bytes())
        content[len(content) // 2] ^= 0xFF
        (tmp_path / "m.npz").write_bytes(content)
        with pytest.raises(BadInputError, match="not a shape model"):
            ShapeModel.load(tmp_path / "m.npz")

    def test_a_plain_array_or_a_folder(self, tmp_path):
        np.save(tmp_path / "a.npy", np.zeros(3))
        (tmp_path / "d").mkdir()
        for name in ("a.npy", "d"):
            with pytest.raises(BadInputError, match="not a shape model"):
                ShapeModel.load(tmp_path / name)

    def test_other_arrays(self, tmp_path):
        np.savez(tmp_path / "m.npz", schema=1, mean=np.zeros((3, 2)))
        with pytest.raises(BadInputError, match="eigenvectors"):
            ShapeModel.load(tmp_path / "m.npz")

    def test_unknown_schema(self, tmp_path):
        np.savez(tmp_path / "m.npz", schema=99)
        with pytest.raises(BadInputError, match=r"schema 99, expected 1"):
            ShapeModel.load(tmp_path / "m.npz")

    def test_an_existing_file_needs_force(self, model, tmp_path):
        path = tmp_path / "m.npz"
        path.write_bytes(b"old")
        with pytest.raises(BadInputError, match="exists already"):
            model.save(path)
        assert path.read_bytes() == b"old"
        model.save(path, force=True)
        assert ShapeModel.load(path).n == N_POINTS

    def test_full_disk_leaves_the_old_file(self, model, tmp_path, monkeypatch):
        path = tmp_path / "m.npz"
        path.write_bytes(b"old")

        def full_disk(descriptor):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "fsync", full_disk)
        with pytest.raises(EnvironmentProblemError, match="disk is full"):
            model.save(path, force=True)
        assert path.read_bytes() == b"old"
        assert list(tmp_path.iterdir()) == [path]


class TestBadInput:
    @pytest.mark.parametrize("shape", [(5, 20), (5, 10, 3), (10, 2), (5, 0, 2)])
    def test_fit_of_another_shape(self, shape):
        with pytest.raises(BadInputError, match=r"expected \(N, n, 2\)"):
            ShapeModel.fit(np.zeros(shape))

    @pytest.mark.parametrize("count", [0, 1])
    def test_too_few_shapes(self, shapes, count):
        with pytest.raises(BadInputError, match=f"{count} shapes to fit, expected 2 or more"):
            ShapeModel.fit(shapes[:count])

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_not_finite(self, shapes, model, bad):
        broken = shapes.copy()
        broken[[3, 5], 2, 1] = bad
        for action in (ShapeModel.fit, model.soften):
            with pytest.raises(BadInputError, match=r"2 shapes hold NaN or infinity \(first: shape 3\)"):
                action(broken)
        with pytest.raises(BadInputError, match="1 shapes hold NaN or infinity, expected"):
            model.soften(broken[3])

    def test_shapes_that_are_all_equal(self, shapes):
        with pytest.raises(BadInputError, match="all 7 shapes to fit are equal"):
            ShapeModel.fit(np.repeat(shapes[:1], 7, axis=0))

    @pytest.mark.parametrize("shape", [(4, 9, 2), (20,), (10, 3)])
    def test_soften_of_another_scheme(self, model, shape):
        with pytest.raises(BadInputError, match=r"expected \(..., 10, 2\)"):
            model.soften(np.zeros(shape))

    @pytest.mark.parametrize("share", [0.0, -0.5, 1.01, float("nan")])
    def test_share_out_of_range(self, model, share):
        with pytest.raises(ConfigError, match=r"expected in \(0, 1\]"):
            model.soften(model.mean, share)
        with pytest.raises(ConfigError, match=r"expected in \(0, 1\]"):
            model.soften_tensor(torch.zeros(1, N_POINTS, 2), share)

    def test_arrays_that_do_not_fit(self, model):
        with pytest.raises(BadInputError, match=r"expected \(n, 2\), \(2n, k\), \(k,\)"):
            ShapeModel(model.mean, model.eigenvectors[:-1], model.eigenvalues)
        with pytest.raises(BadInputError, match="positive and falling"):
            ShapeModel(model.mean, model.eigenvectors, model.eigenvalues[::-1])
        with pytest.raises(BadInputError, match="mean holds NaN"):
            ShapeModel(np.full((N_POINTS, 2), np.nan), model.eigenvectors, model.eigenvalues)

    def test_the_model_cannot_be_changed_by_accident(self, model):
        with pytest.raises(ValueError, match="read-only"):
            model.mean[0, 0] = 1.0
