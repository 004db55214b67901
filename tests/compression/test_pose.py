"""Head pose from a 3D landmark fit, against heads of known rotation (scipy's), a general optimiser, and symmetry."""

from __future__ import annotations

import errno
import os

import numpy as np
import pytest
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from pocketface.benchmarks.data.registry import DATASETS
from pocketface.benchmarks.data.synthetic_shape import MEAN_POINTS
from pocketface.benchmarks.head_pose import angle_errors
from pocketface.compression.shape.pose import HeadPose
from pocketface.compression.shape.pose_check import (
    draw,
    expression_table,
    pose_table,
    tilt_between,
    truth_angles,
    truth_table,
)
from pocketface.compression.shape.weak_perspective import euler, factorise, fit_cameras
from pocketface.sdk.errors import BadInputError, EnvironmentProblemError
from pocketface.sdk.schemes.registry import load_scheme

FLIP = list(load_scheme("ibug68").flip)


def head():
    """A 3D face made by hand: the drawn face's front view bent backwards, and a nose. Pitch 0 as HeadPose has it."""
    x, y = MEAN_POINTS.T
    z = 1.2 - 0.8 * x**2 - 0.25 * (y - 0.5) ** 2
    z[27:31] += (0.1, 0.2, 0.33, 0.45)
    z[31:36] += (0.12, 0.18, 0.22, 0.18, 0.12)
    dy = y[[48, 54]].mean() - y[[36, 39, 42, 45]].mean()
    dz = z[[48, 54]].mean() - z[[36, 39, 42, 45]].mean()
    turned = Rotation.from_euler("x", np.arctan2(-dz, dy)).apply(np.stack([x, y, z], 1))
    turned -= turned.mean(0)
    return turned / (turned[45, 0] - turned[36, 0])


def rotations(angles):
    """Rz(roll) Rx(pitch) Ry(yaw), by scipy."""
    return Rotation.from_euler("ZXY", np.asarray(angles)[:, [2, 1, 0]], degrees=True).as_matrix()


def seen(faces, angles, random):
    """Orthographic pictures of 3D faces, each at its own scale and place."""
    flat = np.einsum("fki,fni->fnk", rotations(angles)[:, :2], np.broadcast_to(faces, (len(angles), 68, 3)))
    return flat * random.uniform(40, 200, (len(angles), 1, 1)) + random.uniform(-500, 500, (len(angles), 1, 2))


def poses(count, random):
    return random.normal(size=(count, 3)) * (20, 10, 12)


@pytest.fixture(scope="module")
def exact():
    """A HeadPose fitted on noiseless views of the hand-made head."""
    random = np.random.default_rng(0)
    return HeadPose.fit(seen(head(), poses(60, random), random))


@pytest.fixture(scope="module")
def drawn():
    points, truth = draw(250, 1)
    return HeadPose.fit(points), points, truth


def test_a_rigid_head_is_recovered_from_its_pictures_alone(exact):
    np.testing.assert_allclose(exact.mean_shape, head(), atol=2e-3)
    random = np.random.default_rng(1)
    angles = poses(200, random)
    assert angle_errors(exact.angles(seen(head(), angles, random)), angles).max() < 0.1


def test_noise_and_expressions_cost_little():
    """Mouth opening, brows and 3 % noise; a face is about 3 eye distances wide, so 0.03 is a pixel in a hundred."""
    random = np.random.default_rng(2)

    def people(count):
        faces = np.repeat(head()[None], count, 0)
        drop = random.uniform(0, 0.25, (count, 1))
        faces[:, 55:60, 1] += drop
        faces[:, 65:68, 1] += drop
        faces[:, 5:12, 1] += 0.7 * drop
        faces[:, 17:27, 1] -= random.uniform(0, 0.1, (count, 1))
        return faces + random.normal(0, 0.03, faces.shape)

    pose = HeadPose.fit(seen(people(400), poses(400, random), random))
    angles = poses(300, random)
    errors = angle_errors(pose.angles(seen(people(300), angles, random)), angles)
    assert (errors.mean(0) < (1.2, 2.0, 0.6)).all(), errors.mean(0)


def test_drawn_heads_with_sliding_jaws_are_read_right(drawn):
    pose, _, _ = drawn
    points, truth = draw(120, 2)
    got = pose.angles(points).astype(np.float64)
    want = truth_angles(truth, tilt_between(got, truth))
    assert (angle_errors(got, want).mean(0) < (1.5, 2.5, 0.6)).all()
    # A jaw taken as fixed makes every turn smaller by a tenth and more.
    assert 0.94 < np.polyfit(want[:, 0], got[:, 0], 1)[0] < 1.03


def test_a_camera_is_the_least_squares_one(exact):
    """Against scipy's optimiser on rotation vector, scale and shift, for weights of any kind."""
    random = np.random.default_rng(3)
    angles = poses(4, random)
    shapes = seen(head(), angles, random) + random.normal(0, 8, (4, 68, 2))
    weights = random.uniform(0.1, 1, (4, 68))
    fit = fit_cameras(shapes, exact.mean_shape, weights)
    for i in range(4):

        def gap(p, i=i):
            flat = np.exp(p[3]) * Rotation.from_rotvec(p[:3]).apply(exact.mean_shape.copy())[:, :2] + p[4:] * 100
            return ((flat - shapes[i]) * np.sqrt(weights[i])[:, None]).ravel()

        start = [*Rotation.from_matrix(rotations(angles)[i]).as_rotvec(), 4.5, 0, 0]
        best = least_squares(gap, start, xtol=1e-12, ftol=1e-12, gtol=1e-12)
        np.testing.assert_allclose(fit.rotation[i], Rotation.from_rotvec(best.x[:3]).as_matrix(), atol=1e-5)
        assert fit.scale[i] == pytest.approx(np.exp(best.x[3]), rel=1e-5)
        np.testing.assert_allclose(fit.shift[i], best.x[4:] * 100, atol=1e-2)


def test_euler_angles_are_scipys():
    angles = np.random.default_rng(4).uniform((-170, -85, -170), (170, 85, 170), (50, 3))
    np.testing.assert_allclose(euler(rotations(angles)), angles, atol=1e-9)


def test_factorisation_gives_the_shape_up_to_a_rigid_motion():
    random = np.random.default_rng(5)
    shapes = seen(head(), poses(30, random), random)
    got = factorise(shapes - shapes.mean(1, keepdims=True))
    distance = np.linalg.norm(got[:, None] - got[None], axis=-1)
    want = np.linalg.norm(head()[:, None] - head()[None], axis=-1)
    np.testing.assert_allclose(distance / distance.max(), want / want.max(), atol=1e-6)


@pytest.mark.parametrize(
    ("angle", "dx", "dy"),
    [((25, 0, 0), 1, 0), ((-25, 0, 0), -1, 0), ((0, 15, 0), 0, -1), ((0, -15, 0), 0, 1)],
)
def test_signs_are_those_of_the_picture(exact, angle, dx, dy):
    """The nose tip moves to where the face looks: yaw > 0 to the image's right, pitch > 0 up (y is down)."""
    front, turned = (
        (head() @ rotations([a])[0].T)[:, :2] - (head()[[36, 45]] @ rotations([a])[0].T)[:, :2].mean(0)
        for a in ((0, 0, 0), angle)
    )
    moved = turned[30] - front[30]
    assert np.sign(np.where(np.abs(moved) < 0.02, 0, moved)).tolist() == [dx, dy]
    np.testing.assert_allclose(exact.angles(turned[None])[0], angle, atol=0.1)


def test_roll_is_clockwise_as_seen(exact):
    """The eye on the image's right goes down."""
    turned = head() @ rotations([(0, 0, 20)])[0].T
    assert turned[45, 1] > turned[36, 1]
    np.testing.assert_allclose(exact.angles(turned[None, :, :2])[0], (0, 0, 20), atol=0.1)


def test_mirroring_negates_yaw_and_roll(drawn):
    pose, points, _ = drawn
    mirrored = (640 - points * (1, 0) + points * (0, 1) - (0, 640))[:, FLIP]
    np.testing.assert_allclose(pose.angles(mirrored), pose.angles(points) * (-1, 1, -1), atol=1e-4)


def test_scale_and_shift_change_nothing_and_rotation_only_the_roll(drawn):
    pose, points, _ = drawn
    angles = pose.angles(points)
    np.testing.assert_allclose(pose.angles(points * 37 + (1000, -50)), angles, atol=1e-4)
    for degrees in (-120.0, 30.0, 75.0):
        cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        turned = points @ np.array([[cos, sin], [-sin, cos]])  # clockwise as seen: x turns towards y
        assert angle_errors(pose.angles(turned), angles + np.array((0, 0, degrees))).max() < 1e-3


def test_a_face_is_read_alone_as_among_others(drawn):
    pose, points, _ = drawn
    np.testing.assert_allclose(pose.angles(points[7:8]), pose.angles(points)[7:8], atol=1e-4)
    assert pose.angles(points.astype(np.float32)).dtype == np.float32


def test_the_mean_shape_is_in_its_frame(drawn):
    pose, _, _ = drawn
    shape = pose.mean_shape
    np.testing.assert_array_equal(shape[FLIP] * (-1, 1, 1), shape)  # exactly
    assert np.linalg.norm(shape[45] - shape[36]) == pytest.approx(1)
    assert shape[45, 0] > 0  # the subject's left eye is on the image's right
    assert shape[8, 1] > shape[30, 1] > shape[27, 1]  # y down
    assert shape[30, 2] > shape[[36, 45, 48, 54], 2].max() + 0.2  # the nose in front
    assert shape[[48, 54], 2].mean() == pytest.approx(shape[[36, 39, 42, 45], 2].mean(), abs=1e-9)


def test_what_moves_counts_less(drawn):
    pose, _, _ = drawn
    weights = pose.weights
    assert weights.sum() == pytest.approx(1)
    np.testing.assert_array_equal(weights[FLIP], weights)
    nose, lower_lip, chin = weights[27:36].mean(), weights[55:60].mean(), weights[6:11].mean()
    assert nose > 2 * lower_lip > 0
    assert nose > 2 * chin > 0


def test_the_fit_depends_neither_on_order_nor_on_size_nor_on_mirroring(drawn):
    pose, points, _ = drawn
    sizes = np.geomspace(0.01, 100, len(points))[:, None, None]
    for other in (points[::-1], points * sizes, (points * (-1, 1))[:, FLIP]):
        np.testing.assert_allclose(HeadPose.fit(other).mean_shape, pose.mean_shape, atol=1e-4)


def test_misfit_tells_a_spoilt_face(exact):
    random = np.random.default_rng(6)
    points = seen(head(), poses(5, random), random)
    assert exact.misfit(points).max() < 0.005
    points[3] = points[3][random.permutation(68)]
    assert exact.misfit(points).argmax() == 3
    assert exact.misfit(points)[3] > 0.2


def test_round_trip(tmp_path, drawn):
    pose, points, _ = drawn
    pose.save(tmp_path / "pose.npz")
    again = HeadPose.load(tmp_path / "pose.npz")
    np.testing.assert_array_equal(again.mean_shape, pose.mean_shape)
    np.testing.assert_array_equal(again.angles(points), pose.angles(points))
    again.save(tmp_path / "other.npz")
    assert (tmp_path / "other.npz").read_bytes() == (tmp_path / "pose.npz").read_bytes()
    with pytest.raises(BadInputError, match="exists"):
        pose.save(tmp_path / "pose.npz")
    pose.save(tmp_path / "pose.npz", force=True)


def test_a_failed_save_leaves_nothing(tmp_path, exact, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(EnvironmentProblemError, match="full"):
        exact.save(tmp_path / "pose.npz")
    assert list(tmp_path.iterdir()) == []


def test_files_that_hold_no_head_pose_are_refused(tmp_path, exact):
    with pytest.raises(BadInputError, match="no such head pose"):
        HeadPose.load(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("hello")
    np.savez(tmp_path / "part.npz", schema=1, mean_shape=exact.mean_shape)
    for name in ("text.npz", "part.npz"):
        with pytest.raises(BadInputError, match="not a head pose"):
            HeadPose.load(tmp_path / name)
    np.savez(tmp_path / "new.npz", schema=9, mean_shape=exact.mean_shape, residuals=exact.residuals)
    with pytest.raises(BadInputError, match="schema 9"):
        HeadPose.load(tmp_path / "new.npz")


@pytest.mark.parametrize("shape", [(68, 2), (5, 67, 2), (5, 68, 3), (0, 68, 2)])
def test_other_shapes_are_refused(exact, shape):
    for call in (exact.angles, exact.misfit, HeadPose.fit):
        with pytest.raises(BadInputError, match=r"expected \(N, 68, 2\)"):
            call(np.zeros(shape))


def test_faces_that_cannot_be_read_are_refused(exact):
    random = np.random.default_rng(7)
    good = seen(head(), poses(40, random), random)
    with pytest.raises(BadInputError, match="19 faces"):
        HeadPose.fit(good[:19])
    nan, line, place = good.copy(), good.copy(), good.copy()
    nan[4, 30, 1] = np.nan
    line[5] = np.arange(68)[:, None] * (0.3, 0.7)
    place[6] = 3
    for bad, message in ((nan, "NaN.*face 4"), (line, "line.*face 5"), (place, "place.*face 6")):
        for call in (exact.angles, HeadPose.fit):
            with pytest.raises(BadInputError, match=message):
                call(bad)
    with pytest.raises(BadInputError, match="68"):
        exact.angles(np.full((1, 68, 2), "x"))


def test_faces_that_tell_no_depth_are_refused():
    random = np.random.default_rng(8)
    rolled = poses(100, random) * (0, 0, 1)
    for faces in (head(), head() + random.normal(0, 0.03, (100, 68, 3))):
        with pytest.raises(BadInputError, match="hardly turn"):
            HeadPose.fit(seen(faces, rolled, random))
    with pytest.raises(BadInputError, match=r"hardly turn|order"):
        HeadPose.fit(random.normal(size=(60, 68, 2)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s, r: (s[:67], r), "mean_shape is"),
        (lambda s, r: (s * np.nan, r), "NaN"),
        (lambda s, r: (s, -r - 1), "below 0"),
        (lambda s, r: (s + np.array((0.1, 0, 0)), r), "mirror"),
        (lambda s, r: (s * (1, 1, 0), r), "flat"),
    ],
)
def test_arrays_that_are_no_head_pose_are_refused(exact, change, message):
    with pytest.raises(BadInputError, match=message):
        HeadPose(*change(exact.mean_shape, exact.residuals))


def test_the_check_prints_its_tables():
    rows = truth_table(60, 8)
    assert len(rows) == 9
    assert all(row.count("|") == 8 for row in rows)
    assert len(expression_table(60, 4)) == 11


@pytest.mark.real
def test_real_faces_have_plausible_poses(data_root):
    scheme = load_scheme("ibug68")

    def points(*folders):
        return np.stack([face.points for face in DATASETS["300w"](data_root, folders=folders, scheme=scheme)])

    pose = HeadPose.fit(points("helen/trainset"))
    for folder in ("helen/testset", "afw"):
        faces = points(folder)
        angles = pose.angles(faces)
        low, middle, high = np.percentile(angles, [5, 50, 95], axis=0)
        assert (np.abs(middle) < (5, 6, 4)).all()
        assert (low < (-15, -8, -8)).all()
        assert (high > (15, 8, 8)).all()
        assert (np.abs(angles) < (75, 60, 60)).all()
        assert np.median(pose.misfit(faces)) < 0.06
        mirrored = (faces * (-1, 1))[:, FLIP]
        np.testing.assert_allclose(pose.angles(mirrored), angles * (-1, 1, -1), atol=1e-3)
    assert len(pose_table(data_root)) == 2 + 2 * 3
    # Another data set gives the same face, but for where its pitch begins.
    afw = HeadPose.fit(points("afw"))
    assert np.sqrt(((afw.mean_shape - pose.mean_shape)[17:] ** 2).mean()) < 0.03
