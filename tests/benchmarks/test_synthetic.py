"""Drawn faces: are the landmarks where the picture and the labels show them, and is a seed all that decides?"""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from pocketface.benchmarks.data import synthetic
from pocketface.benchmarks.data.synthetic import (
    PARSING_CLASSES,
    SyntheticFace,
    render_background,
    render_face,
    render_sequence,
)
from pocketface.benchmarks.data.synthetic_look import Moment, sample_motion
from pocketface.benchmarks.data.synthetic_shape import Expression, Head, Identity, View

ID = {name: number for number, name in enumerate(PARSING_CLASSES)}
SIZE = 192


def to_region(points: NDArray[np.floating], region: NDArray[np.bool_]) -> NDArray[np.floating]:
    """Distance of each point to the nearest pixel centre of a region, by looking at all of them."""
    y, x = np.nonzero(region)
    return np.hypot(points[:, :1] - x, points[:, 1:] - y).min(1)


def to_border(points: NDArray[np.floating], region: NDArray[np.bool_]) -> NDArray[np.floating]:
    """Distance of each point to the line between a region and the rest: the larger of both sides', less half."""
    return np.maximum(to_region(points, region), to_region(points, ~region)) - 0.5


@pytest.fixture(scope="module")
def faces() -> list[SyntheticFace]:
    return [render_face(seed, 96) for seed in range(40)]


@pytest.fixture(scope="module")
def frontal() -> list[SyntheticFace]:
    """People who look straight into the camera, eyes and mouth open."""
    does = Expression(open=0.5)
    return [synthetic._render(seed, [Moment((0.0, 0.0, 0.0), does)], SIZE)[0] for seed in range(6)]


def test_shapes_types_and_ranges(faces: list[SyntheticFace]) -> None:
    for face in faces:
        assert face.image.shape == (96, 96, 3)
        assert face.image.dtype == np.uint8
        assert face.points.shape == (68, 2)
        assert face.points.dtype == np.float32
        assert face.labels.shape == face.hair.shape == (96, 96)
        assert face.labels.dtype == np.uint8
        assert face.labels.max() < len(PARSING_CLASSES) == 11
        np.testing.assert_array_equal(face.hair, face.labels == ID["hair"])
        assert all(abs(angle) <= bound for angle, bound in zip(face.pose, (40, 20, 25), strict=True))


def test_the_face_fills_about_half_of_the_picture_and_lies_inside(faces: list[SyntheticFace]) -> None:
    for face in faces:
        assert face.points.min() > 1
        assert face.points.max() < 94
        assert 0.45 <= np.ptp(face.points, axis=0).max() / 96 <= 0.65


def test_a_seed_decides_every_byte() -> None:
    one, two, other = render_face(7, 64), render_face(7, 64), render_face(8, 64)
    for name in ("image", "points", "labels", "hair"):
        assert getattr(one, name).tobytes() == getattr(two, name).tobytes()
    assert one.image.tobytes() != other.image.tobytes()
    assert one.points.tobytes() != other.points.tobytes()


def test_drawing_leaves_global_randomness_alone() -> None:
    np.random.seed(3)
    state = np.random.get_state()[1].copy()
    render_face(1, 48)
    np.testing.assert_array_equal(np.random.get_state()[1], state)


def test_size_changes_the_resolution_and_nothing_else() -> None:
    small, large = render_face(5, 64), render_face(5, 192)
    # Edge to edge: (x + 0.5) / size is the same place.
    np.testing.assert_allclose((small.points + 0.5) / 64, (large.points + 0.5) / 192, atol=0.006)
    assert small.pose == large.pose
    shrunk = large.image.reshape(64, 3, 64, 3, 3).mean((1, 3))
    assert np.abs(shrunk - small.image).mean() < 12
    assert (large.labels[1::3, 1::3] == small.labels).mean() > 0.97


EYES = [("right_eye", range(36, 42)), ("left_eye", range(42, 48))]


@pytest.mark.parametrize(("name", "index"), EYES)
def test_eye_landmarks_lie_on_the_eyes_border(frontal: list[SyntheticFace], name: str, index: range) -> None:
    for face in frontal:
        distance = to_border(face.points[list(index)], face.labels == ID[name])
        assert distance.max() < 1.5
        assert distance.mean() < 0.8


def test_lip_landmarks_lie_on_the_lips_borders(frontal: list[SyntheticFace]) -> None:
    for face in frontal:
        upper, lower, inside = (face.labels == ID[name] for name in ("upper_lip", "lower_lip", "inner_mouth"))
        outline = upper | lower | inside
        assert to_border(face.points[48:60], outline).max() < 1.5
        assert to_border(face.points[[61, 62, 63, 65, 66, 67]], inside).max() < 1.5
        assert to_border(face.points[[60, 64]], inside).max() < 2.0  # tips thinner than a pixel
        assert to_region(face.points[49:54], upper).max() < 1.5
        assert to_region(face.points[55:60], lower).max() < 1.5


def test_labels_are_not_shifted_against_the_landmarks() -> None:
    # Pixels scatter the borders by up to a pixel; their mean over people must not lean to one side.
    down, right = np.array([0.0, 1.0]), np.array([1.0, 0.0])
    lips = ("upper_lip", "lower_lip", "inner_mouth")
    looks = [
        (51, lips, -down), (57, lips, down), (62, ("inner_mouth",), -down), (66, ("inner_mouth",), down),
        (33, ("nose",), down),
        (37, ("right_eye",), -down), (41, ("right_eye",), down), (43, ("left_eye",), -down), (47, ("left_eye",), down),
        (48, lips, -right), (54, lips, right),
    ]  # fmt: skip
    beyond: dict[int, list[float]] = {index: [] for index, *_ in looks}
    along = np.arange(-4, 4, 0.05)
    for seed in range(10):
        face = synthetic._render(seed, [Moment((0.0, 0.0, 0.0), Expression(open=0.5))], SIZE)[0]
        for index, names, way in looks:
            x, y = np.round(face.points[index] + along[:, None] * way).astype(int).T
            inside = np.isin(face.labels[y, x], [ID[name] for name in names])
            beyond[index].append(along[np.flatnonzero(inside)[-1]])
    means = {index: float(np.mean(found)) for index, found in beyond.items()}
    # The mouth's corners are tips thinner than a pixel: short on both sides alike.
    assert max(abs(mean) for index, mean in means.items() if index not in (48, 54)) < 0.35, means
    up = np.mean([means[k] for k in (51, 62, 37, 43)]) - np.mean([means[k] for k in (57, 66, 33, 41, 47)])
    assert abs(up) / 2 < 0.2
    assert abs(means[48] - means[54]) / 2 < 0.2


def test_nose_landmarks_lie_on_the_noses_lower_border(frontal: list[SyntheticFace]) -> None:
    for face in frontal:
        nose = face.labels == ID["nose"]
        assert to_border(face.points[31:36], nose).max() < 1.5
        assert to_region(face.points[27:31], nose).max() < 1.5


def test_brow_landmarks_lie_on_the_brows_upper_border(frontal: list[SyntheticFace]) -> None:
    seen = 0
    for face in frontal:
        for name, index in (("right_brow", slice(17, 22)), ("left_brow", slice(22, 27))):
            points = face.points[index]
            # A fringe may hide a brow.
            bare = ~face.hair[np.round(points[:, 1]).astype(int) - 2, np.round(points[:, 0]).astype(int)]
            seen += bare.sum()
            assert (to_border(points, face.labels == ID[name])[bare] < 1.5).all()
    assert seen > 30


def test_jaw_landmarks_lie_on_the_faces_outline_seen_from_the_front(frontal: list[SyntheticFace]) -> None:
    for face in frontal:
        head = (face.labels != ID["background"]) & ~face.hair
        # Below the ears: there the outline is the jaw's.
        assert to_border(face.points[3:14], head).max() < 1.5


@pytest.mark.parametrize("yaw", [-35.0, 35.0])
def test_a_turned_faces_far_jaw_lies_on_the_visible_outline(yaw: float) -> None:
    for seed in range(4):
        face = synthetic._render(seed, [Moment((yaw, 0.0, 0.0), Expression())], SIZE)[0]
        far = face.points[10:15] if yaw > 0 else face.points[2:7]
        skin = (face.labels != ID["background"]) & ~face.hair
        assert to_border(far, skin).max() < 1.5


def test_left_and_right_are_the_subjects(faces: list[SyntheticFace]) -> None:
    for face in faces:
        cosine, sine = np.cos(np.radians(face.pose[2])), np.sin(np.radians(face.pose[2]))
        along = face.points @ np.array([cosine, sine])  # x with the roll taken out
        assert along[42:48].mean() > along[36:42].mean()
        assert along[22:27].mean() > along[17:22].mean()
        y, x = np.mgrid[:96, :96]
        across = x * cosine + y * sine
        for right, left in (("right_eye", "left_eye"), ("right_brow", "left_brow")):
            if (face.labels == ID[right]).any() and (face.labels == ID[left]).any():
                assert across[face.labels == ID[left]].mean() > across[face.labels == ID[right]].mean()


def test_every_part_is_there_near_its_landmarks(faces: list[SyntheticFace]) -> None:
    parts = {"right_eye": slice(36, 42), "left_eye": slice(42, 48), "nose": slice(27, 36), "upper_lip": slice(48, 55),
             "lower_lip": slice(54, 60), "right_brow": slice(17, 22), "left_brow": slice(22, 27)}  # fmt: skip
    found = dict.fromkeys(parts, 0)
    for face in faces:
        for name, index in parts.items():
            region = face.labels == ID[name]
            if region.any():
                found[name] += 1
                y, x = np.nonzero(region)
                centre = np.array([x.mean(), y.mean()])
                assert np.linalg.norm(face.points[index].mean(0) - centre) < 6
    # Hair and a turned nose may hide a brow or an eye of some; eyes and lips are nearly always seen.
    assert min(found[name] for name in ("nose", "upper_lip", "lower_lip")) == len(faces)
    assert min(found.values()) >= 0.85 * len(faces)


def test_the_pupil_is_darker_than_the_white_of_the_eye(frontal: list[SyntheticFace]) -> None:
    # What a network learns from: the picture shows the eye where the landmarks say.
    for face in frontal:
        grey = face.image.astype(float).mean(-1)
        for index in (range(36, 42), range(42, 48)):
            corners, middle = face.points[[index[0], index[3]]], face.points[list(index)].mean(0)
            iris = grey[round(float(middle[1])), round(float(middle[0]))]
            white = [grey[tuple(np.round(0.68 * c + 0.32 * middle).astype(int)[::-1])] for c in corners]
            assert max(white) > iris + 15


def test_pose_moves_the_nose_as_it_says() -> None:
    def nose(pose: tuple[float, float, float]) -> NDArray[np.floating]:
        points = synthetic._render(2, [Moment(pose, Expression())], 96)[0].points
        eyes = points[36:48].mean(0)
        return (points[30] - eyes) / np.linalg.norm(points[45] - points[36])

    level = nose((0, 0, 0))
    assert nose((25, 0, 0))[0] > level[0] + 0.1
    assert nose((-25, 0, 0))[0] < level[0] - 0.1
    assert nose((0, 15, 0))[1] < level[1] - 0.05  # chin up: the tip rises
    assert nose((0, -15, 0))[1] > level[1] + 0.05
    points = synthetic._render(2, [Moment((0.0, 0.0, 20.0), Expression())], 96)[0].points
    line = points[45] - points[36]
    assert np.degrees(np.arctan2(line[1], line[0])) == pytest.approx(20, abs=2)


def test_landmarks_are_the_projection_of_a_rigid_head() -> None:
    # All but the jaw's points, which slide: with the perspective taken out, they are one affine map of the 3D shape.
    head = Head(Identity(), Expression())
    theta, v = head.locate(head.points)
    solid = head.surface(theta, v)
    view = View((12.0, 6.0, -9.0), 50.0, (10.0, 20.0))
    turned = view.turn(solid)
    flat = (view.landmarks(head) - view.centre) * (1 - turned[:, 2:] / 9.0) / 50.0
    keep = np.r_[8, 17:68]
    design = np.c_[solid[keep], np.ones(len(keep))]
    fitted, *_ = np.linalg.lstsq(design, flat[keep], rcond=None)
    np.testing.assert_allclose(design @ fitted, flat[keep], atol=1e-9)
    rows = fitted[:3].T  # two rows of a rotation: orthonormal
    np.testing.assert_allclose(rows @ rows.T, np.eye(2), atol=1e-9)


def test_expressions_do_what_they_say() -> None:
    def points(**does: float) -> NDArray[np.floating]:
        return Head(Identity(), Expression(**does)).points

    rest = points()
    assert np.ptp(points(open=1.0)[[62, 66], 1]) > np.ptp(rest[[62, 66], 1]) + 0.2
    assert points(open=1.0)[8, 1] > rest[8, 1] + 0.2
    shut, lids = points(blink=1.0), [(37, 41), (38, 40), (43, 47), (44, 46)]
    for top, bottom in lids:
        assert 0 < shut[bottom, 1] - shut[top, 1] < 0.3 * (rest[bottom, 1] - rest[top, 1])
    smile = points(smile=1.0)
    assert smile[54, 0] > rest[54, 0] + 0.05
    assert smile[54, 1] < rest[54, 1] - 0.05
    assert (points(brows=1.0)[17:27, 1] < rest[17:27, 1] - 0.05).all()
    np.testing.assert_allclose(rest[[36, 39, 48]], rest[[45, 42, 54]] * (-1, 1), atol=1e-12)


@pytest.mark.parametrize("seed", [3, 11])
def test_sequences_are_smooth_and_of_one_person(seed: int) -> None:
    frames = render_sequence(seed, 12, 64)
    points = np.array([face.points for face in frames])
    steps = np.linalg.norm(np.diff(points, axis=0), axis=-1)
    assert 0 < steps.max() < 0.035 * 64
    assert steps.mean() > 0.01  # it does move
    assert len({face.pose for face in frames}) == 12
    assert points.min() > 0
    assert points.max() < 63
    # The corner above the shoulders shows the same background in all frames.
    corner = np.array([face.image[:4, :4].mean((0, 1)) for face in frames])
    assert np.ptp(corner, axis=0).max() < 8


def test_motion_is_smooth_over_many_seconds() -> None:
    worst = 0.0
    for seed in range(6):
        rng = np.random.default_rng(seed)
        who, moments = Identity.sample(rng), sample_motion(rng, 90)
        flat = [View(m.pose).landmarks(Head(who, m.does)) for m in moments]
        worst = max(worst, float(np.linalg.norm(np.diff(flat, axis=0), axis=-1).max()))
    # In face half widths: about 3 px a frame at 192 px.
    assert worst < 0.07


def test_longer_motion_begins_like_shorter_motion() -> None:
    short, long = (sample_motion(np.random.default_rng(4), n) for n in (5, 50))
    assert short == long[:5]


def test_people_vary(faces: list[SyntheticFace]) -> None:
    pixels = np.stack([face.image for face in faces]).astype(float)
    assert pixels.std(0).mean() > 30
    poses = np.array([face.pose for face in faces])
    assert (poses.min(0) < -3).all()
    assert (poses.max(0) > 3).all()
    skin = np.array([face.image[face.labels == ID["skin"]].mean() for face in faces])
    assert np.ptp(skin) > 70
    hairy = np.array([face.hair.mean() for face in faces])
    assert hairy.max() > 0.15
    # Shape, with place, scale and roll taken out.
    shape = []
    for face in faces:
        line = face.points[45] - face.points[36]
        unit = complex(*line)
        z = (face.points[:, 0] + 1j * face.points[:, 1] - complex(*face.points[36])) / unit
        shape.append(z)
    assert np.abs(np.std(shape, axis=0)).mean() > 0.04


def test_some_are_bald() -> None:
    bald = [seed for seed in range(60) if synthetic.sample_look(synthetic._random(seed, synthetic._LOOK)).hair is None]
    assert 0 < len(bald) < 15
    assert not render_face(bald[0], 64).hair.any()


def test_the_background_is_that_of_the_face_without_the_face() -> None:
    for seed in range(3):
        face, empty = render_face(seed, 96), render_background(seed, 96)
        assert empty.shape == (96, 96, 3)
        assert empty.dtype == np.uint8
        same = (face.image == empty).all(-1)
        known = (face.labels > 0) & (face.labels != ID["hair"])
        assert same[:, :2].mean() > 0.4  # the left edge, above the shoulder
        assert same[known].mean() < 0.02


def test_backgrounds_differ() -> None:
    pictures = np.stack([render_background(seed, 32) for seed in range(12)]).astype(float)
    assert pictures.std(0).mean() > 25
