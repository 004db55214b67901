import numpy as np
import pytest

from pocketface.sdk.errors import BadInputError
from pocketface.sdk.geometry import Box
from pocketface.sdk.manifest import Scheme
from pocketface.sdk.overlay import ContoursOverlay, PointsOverlay, ScoreOverlay
from pocketface.sdk.results import Landmarks
from pocketface.sdk.schemes import load_scheme

BLACK = np.zeros((80, 100, 3), np.uint8)
SQUARE = Scheme(name="square", points=4, parts={"ring": (0, 1, 2, 3)}, closed=("ring",), normaliser=(0, 1))


def face(*points: tuple[float, float], score: float = 0.9, box: Box = Box(10, 10, 60, 60)) -> Landmarks:  # noqa: B008
    return Landmarks(np.array(points, np.float32), score, box, "square")


CORNERS = ((20, 20), (60, 20), (60, 50), (20, 50))


def centroid(weight: np.ndarray) -> tuple[float, float]:
    y, x = np.mgrid[: weight.shape[0], : weight.shape[1]]
    return float((x * weight).sum() / weight.sum()), float((y * weight).sum() / weight.sum())


@pytest.mark.parametrize("overlay", [PointsOverlay(), ContoursOverlay(SQUARE), ScoreOverlay()])
def test_the_given_image_is_not_changed_and_no_face_means_no_change(overlay: PointsOverlay) -> None:
    image = np.random.default_rng(0).integers(0, 256, (80, 100, 3), np.uint8)
    before = image.copy()
    assert not np.array_equal(overlay(image, [face(*CORNERS)]), image)
    assert np.array_equal(image, before)
    assert np.array_equal(overlay(image, []), image)
    assert overlay(image, []) is not image
    with pytest.raises(BadInputError, match="uint8"):
        overlay(image / 255, [face(*CORNERS)])


@pytest.mark.parametrize("at", [(30, 40), (30.5, 40.25), (71.9, 12.1)])
def test_a_dot_lies_exactly_on_its_landmark_and_is_as_large_as_asked(at: tuple[float, float]) -> None:
    drawn = PointsOverlay(colour=(0, 200, 0), radius=3)(BLACK, [face(at)])
    weight = drawn[:, :, 1].astype(float) / 200
    assert centroid(weight) == pytest.approx(at, abs=0.13)  # half a sub-pixel of the finer mask
    assert weight.sum() == pytest.approx(np.pi * 9, rel=0.15)
    assert not drawn[:, :, [0, 2]].any()
    assert len(np.unique(drawn[:, :, 1])) > 3  # anti-aliased


def test_dots_of_several_faces_and_of_all_landmarks() -> None:
    drawn = PointsOverlay(radius=2)(BLACK, [face(*CORNERS), face((80, 70), (90, 70))])
    for x, y in (*CORNERS, (80, 70), (90, 70)):
        assert drawn[y, x].tolist() == [255, 214, 10]
    assert not drawn[35, 40].any()


def test_contours_run_along_the_parts_and_closed_ones_close() -> None:
    closed = ContoursOverlay(SQUARE, colour=(255, 255, 255), width=2)(BLACK, [face(*CORNERS)])
    for x, y in ((40, 20), (60, 35), (40, 50), (20, 35)):  # the middle of every side
        assert closed[y, x, 0] > 200
    assert not closed[35, 40].any()
    open_scheme = Scheme(name="open", points=4, parts={"line": (0, 1, 2, 3)}, normaliser=(0, 1))
    drawn = ContoursOverlay(open_scheme, colour=(255, 255, 255), width=2)(BLACK, [face(*CORNERS)])
    assert drawn[50, 40, 0] > 200
    assert not drawn[35, 20].any()
    length = 40 + 30 + 40
    assert drawn[:, :, 0].sum() / 255 == pytest.approx(2 * length, rel=0.1)


@pytest.mark.parametrize("width", [1, 1.75, 3])
@pytest.mark.parametrize("at", [30, 30.4, 30.75])
def test_a_line_runs_through_the_middle_of_its_landmarks(width: float, at: float) -> None:
    scheme = Scheme(name="line", points=2, parts={"line": (0, 1)}, normaliser=(0, 1))
    overlay = ContoursOverlay(scheme, colour=(250, 0, 0), width=width)
    across, down = overlay(BLACK, [face((10, at), (70, at))]), overlay(BLACK, [face((at, 10), (at, 70))])
    assert centroid(across[:, 20:60, 0].astype(float))[1] == pytest.approx(at, abs=0.2)
    assert centroid(down[20:60, :, 0].astype(float))[0] == pytest.approx(at, abs=0.2)
    assert across[:, 40, 0].sum() / 250 == pytest.approx(width, abs=0.02)


def test_a_part_of_one_landmark_draws_no_line() -> None:
    scheme = Scheme(name="pupil", points=4, parts={"pupil": (2,)}, normaliser=(0, 1))
    assert not ContoursOverlay(scheme)(BLACK, [face(*CORNERS)]).any()


def test_box_and_score_above_and_below_the_threshold() -> None:
    for score, colour in ((0.5, [80, 220, 100]), (0.49, [255, 70, 70])):
        drawn = ScoreOverlay(width=2)(BLACK, [face((30, 30), score=score)])
        assert drawn[40, 59].tolist() == colour  # right edge at x = 60, drawn inside
        assert drawn[59, 40].tolist() == colour
        assert not drawn[45, 40].any()
        assert not drawn[40, 62].any()
        label = drawn[11:20, 11:30].reshape(-1, 3)
        assert (label == colour).all(axis=1).any()
        assert (label.astype(int).sum(axis=1) < 100).any()  # dark letters on it


def test_scores_differ_in_their_letters() -> None:
    one, other = (ScoreOverlay()(BLACK, [face((30, 30), score=value)]) for value in (0.91, 0.78))
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("shift", [(-500, 0), (0, 500), (-45, -45), (70, 65), (1e6, 1e6)])
def test_what_lies_outside_the_image_is_cut_off(shift: tuple[float, float]) -> None:
    points = [(x + shift[0], y + shift[1]) for x, y in CORNERS]
    box = Box(10 + shift[0], 10 + shift[1], 60 + shift[0], 60 + shift[1])
    far = [face(*points, box=box)]
    for overlay in (PointsOverlay(), ContoursOverlay(SQUARE), ScoreOverlay()):
        assert overlay(BLACK, far).shape == BLACK.shape
    inside = any(0 <= x < 100 and 0 <= y < 80 for x, y in points)
    assert PointsOverlay()(BLACK, far).any() == inside


@pytest.mark.parametrize("shape", [(1, 1, 3), (2, 90, 3), (1200, 1200, 3)])
def test_any_size_of_image(shape: tuple[int, int, int]) -> None:
    image = np.zeros(shape, np.uint8)
    h, w = shape[:2]
    faces = [face((0, 0), (w - 1, 0), (w - 1, h - 1), (0, h - 1), box=Box.of_image(w, h))]
    drawn = ScoreOverlay()(PointsOverlay()(ContoursOverlay(SQUARE)(image, faces), faces), faces)
    assert drawn.shape == shape
    assert drawn.any()


def test_line_width_follows_the_face() -> None:
    thin, thick = (
        ContoursOverlay(SQUARE, colour=(255, 0, 0))(np.zeros((900, 900, 3), np.uint8), [face(*np.array(CORNERS) * k)])
        for k in (2, 14)
    )
    # a side of 80 gives 1 pixel, one of 560 gives 3.5
    assert thin[35 * 2, :, 0].sum() / 255 / 2 == pytest.approx(1, abs=0.3)
    assert thick[35 * 14, :, 0].sum() / 255 / 2 == pytest.approx(3.5, abs=0.3)


@pytest.mark.parametrize("name", ["ibug68", "wflw98"])
def test_every_landmark_that_belongs_to_a_line_is_touched(name: str) -> None:
    scheme = load_scheme(name)
    points = np.random.default_rng(3).uniform(10, 490, (scheme.points, 2)).round()
    drawn = ContoursOverlay(scheme)(np.zeros((500, 500, 3), np.uint8), [face(*points)])
    for part in scheme.parts.values():
        if len(part) > 1:
            assert all(drawn[int(points[i, 1]), int(points[i, 0])].any() for i in part)
