"""The built-in schemes against faces laid out by hand, and what is refused of the user's own."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pocketface.sdk.errors import ConfigError, UnknownNameError
from pocketface.sdk.manifest import Scheme
from pocketface.sdk.schemes import SCHEMES, check_scheme, load_scheme


def arc(
    cx: float, cy: float, rx: float, ry: float, start: float, stop: float, count: int, *, end: bool = True
) -> list[Any]:
    """Points on an ellipse, angles in degrees clockwise as seen (0 is right, 90 is down)."""
    turns = np.radians(np.linspace(start, stop, count, endpoint=end))
    return [(cx + rx * np.cos(t), cy + ry * np.sin(t)) for t in turns]


def face_68() -> np.ndarray:
    """A symmetric face in iBUG order, mirror axis x = 0; the subject's right is at the image's left."""
    jaw = arc(0, 0, 10, 12, 180, 0, 17)  # from the image's left, over the chin (down), to its right
    brows = [(x, -6 - 0.1 * abs(x)) for x in (-8, -7, -5, -3, -2, 2, 3, 5, 7, 8)]
    nose = [(0, y) for y in (-4, -3, -2, -1)] + [(x, 0) for x in (-2, -1, 0, 1, 2)]
    eyes = []
    for cx in (-5, 5):  # from the corner at the image's left, over the upper lid, back along the lower one
        eyes += [(cx - 2, -4), (cx - 1, -5), (cx + 1, -5), (cx + 2, -4), (cx + 1, -3), (cx - 1, -3)]
    outer = [
        (-4, 5),
        (-3, 4),
        (-1, 3.5),
        (0, 3.7),
        (1, 3.5),
        (3, 4),
        (4, 5),
        (3, 6),
        (1, 7),
        (0, 7.2),
        (-1, 7),
        (-3, 6),
    ]
    inner = [(-3, 5), (-1, 4.5), (0, 4.6), (1, 4.5), (3, 5), (1, 5.5), (0, 5.6), (-1, 5.5)]
    return np.array([*jaw, *brows, *nose, *eyes, *outer, *inner], float)


def face_98() -> np.ndarray:
    """The same for WFLW: 33 of the contour, 9 a brow (upper edge left to right, then back), 8 an eye, 2 pupils."""
    jaw = arc(0, 0, 10, 12, 180, 0, 33)
    right_brow = [(x, -7 - y) for x, y in ((-8, 0), (-7, 1), (-5.5, 1.3), (-4, 1), (-2, 0.5))]
    right_brow += [(x, -6.5) for x in (-2.2, -4, -5.5, -7)]
    left_brow = [(x, -7 - y) for x, y in ((2, 0.5), (4, 1), (5.5, 1.3), (7, 1), (8, 0))]
    left_brow += [(x, -6.5) for x in (7, 5.5, 4, 2.2)]
    nose = [(0, y) for y in (-4, -3, -2, -1)] + [(x, 0) for x in (-2, -1, 0, 1, 2)]
    eyes = []
    for cx in (-5, 5):
        eyes += arc(cx, -4, 2, 1, 180, 540, 8, end=False)
    outer = [
        (-4, 5),
        (-3, 4),
        (-1, 3.5),
        (0, 3.7),
        (1, 3.5),
        (3, 4),
        (4, 5),
        (3, 6),
        (1, 7),
        (0, 7.2),
        (-1, 7),
        (-3, 6),
    ]
    inner = [(-3, 5), (-1, 4.5), (0, 4.6), (1, 4.5), (3, 5), (1, 5.5), (0, 5.6), (-1, 5.5)]
    return np.array([*jaw, *right_brow, *left_brow, *nose, *eyes, *outer, *inner, (-5, -4), (5, -4)], float)


FACES = {"ibug68": face_68, "wflw98": face_98}


@pytest.mark.parametrize("name", SCHEMES)
def test_every_built_in_scheme_is_consistent_and_named_like_its_file(name: str) -> None:
    scheme = load_scheme(name)
    assert scheme.name == name
    covered = sorted(index for part in scheme.parts.values() for index in part)
    assert covered == list(range(scheme.points))
    assert scheme.flip[scheme.normaliser[0]] == scheme.normaliser[1]


@pytest.mark.parametrize("name", SCHEMES)
def test_flip_undoes_itself_and_swaps_left_parts_with_right_ones(name: str) -> None:
    scheme = load_scheme(name)
    assert [scheme.flip[scheme.flip[i]] for i in range(scheme.points)] == list(range(scheme.points))
    for part, indices in scheme.parts.items():
        twin = {"left": "right", "right": "left"}.get(part.split("_")[0])
        other = part if twin is None else part.replace(part.split("_")[0], twin)
        assert {scheme.flip[i] for i in indices} == set(scheme.parts[other])


@pytest.mark.parametrize("name", FACES)
def test_flip_is_the_mirror_of_a_symmetric_face(name: str) -> None:
    # Nearest neighbours on the mirrored face find the permutation without knowing any pair.
    face, scheme = FACES[name](), load_scheme(name)
    assert len(face) == scheme.points
    mirrored = face * (-1, 1)
    nearest = np.linalg.norm(mirrored[:, None] - face[None], axis=-1)
    assert nearest.argmin(axis=1).tolist() == list(scheme.flip)
    assert nearest.min(axis=1).max() < 1e-9


@pytest.mark.parametrize("name", FACES)
def test_parts_lie_where_their_names_say(name: str) -> None:
    face, scheme = FACES[name](), load_scheme(name)
    for part, indices in scheme.parts.items():
        x = face[list(indices), 0].mean()
        side = part.split("_")[0]
        assert (x < 0) if side == "right" else (x > 0) if side == "left" else abs(x) < 1e-9
    outer_corners = face[list(scheme.normaliser)]
    eyes = face[[i for part in ("left_eye", "right_eye") for i in scheme.parts[part]]]
    assert outer_corners[:, 0].tolist() == [eyes[:, 0].min(), eyes[:, 0].max()]
    assert face[list(scheme.parts["jaw"]), 1].max() == face[:, 1].max()


@pytest.mark.parametrize("name", FACES)
def test_parts_are_drawn_without_jumps(name: str) -> None:
    # Consecutive landmarks of a part are neighbours: no step is much longer than the part's usual one.
    face, scheme = FACES[name](), load_scheme(name)
    for part, indices in scheme.parts.items():
        ring = [*indices, indices[0]] if part in scheme.closed else list(indices)
        steps = np.linalg.norm(np.diff(face[ring], axis=0), axis=1)
        assert len(steps) == 0 or steps.max() < 3 * np.median(steps)


def test_wflw_agrees_with_ibug_where_they_share_a_landmark() -> None:
    # WFLW has every second jaw landmark, both noses and both mouths in iBUG's order.
    ibug, wflw = load_scheme("ibug68"), load_scheme("wflw98")
    shared = [2 * i for i in range(17)] + list(range(51, 60)) + list(range(76, 96))
    own = list(range(17)) + list(range(27, 36)) + list(range(48, 68))
    to_wflw = dict(zip(own, shared, strict=True))
    assert [to_wflw[ibug.flip[i]] for i in own] == [wflw.flip[to_wflw[i]] for i in own]


def test_a_users_own_scheme(tmp_path: Path) -> None:
    own = {"name": "three", "points": 3, "parts": {"all": [0, 1, 2]}, "flip": [1, 0, 2], "normaliser": [0, 1]}
    path = tmp_path / "three.json"
    path.write_text(json.dumps(own))
    assert load_scheme(path) == load_scheme(str(path))
    assert load_scheme(path).flip == (1, 0, 2)


def test_unknown_name_and_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"'ibug86' \(did you mean 'ibug68'\?\).*wflw98"):
        load_scheme("ibug86")
    with pytest.raises(ConfigError, match="no such file"):
        load_scheme(tmp_path / "nothing.json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"points": 0}, "0 points"),
        ({"parts": {"all": [0, 3]}}, "part 'all'.*indices from 0 to 2"),
        ({"parts": {"all": [-1]}}, "part 'all'"),
        ({"flip": [0, 1]}, "flip is no mirror"),
        ({"flip": [1, 2, 0]}, "flip is no mirror"),
        ({"flip": [0, 0, 2]}, "flip is no mirror"),
        ({"closed": ["lip"]}, "closed part 'lip'.*one of all"),
        ({"normaliser": [1, 1]}, "normaliser 1, 1"),
        ({"normaliser": [0, 3]}, "normaliser 0, 3"),
        ({"names": ["a", "b"]}, "2 different names"),
        ({"names": ["a", "b", "b"]}, "2 different names"),
        ({"colour": 1}, "unknown field `colour`"),
        ({"points": "three"}, "Expected `int`"),
    ],
)
def test_contradictions_are_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    own = {"name": "three", "points": 3, "parts": {"all": [0, 1, 2]}, "flip": [1, 0, 2], "normaliser": [0, 1]}
    path = tmp_path / "three.json"
    path.write_text(json.dumps(own | change))
    with pytest.raises(ConfigError, match=message) as caught:
        load_scheme(path)
    assert "three.json" in str(caught.value)


def test_a_scheme_without_flip_is_fine() -> None:
    check_scheme(Scheme(name="two", points=2, parts={}, normaliser=(0, 1)))
