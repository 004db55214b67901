"""Data sets and contact sheets of drawn faces, and the raster they are drawn with."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pocketface.benchmarks.data.synthetic import (
    contact_sheet,
    main,
    render_background,
    render_face,
    render_sequence,
    write_dataset,
)
from pocketface.benchmarks.data.synthetic_raster import CLEAR, UNLABELLED, Sheet, draw
from pocketface.benchmarks.data.synthetic_shape import Expression, Head, Identity, curve
from pocketface.sdk.errors import BadInputError, EnvironmentProblemError


def read_pts(path: Path) -> NDArray[np.floating]:
    text = path.read_text()
    assert text.startswith("version: 1\nn_points: 68\n{\n")
    body = re.search(r"\{(.*)\}", text, re.DOTALL)
    assert body
    return np.array([[float(k) for k in line.split()] for line in body[1].strip().splitlines()])


def test_a_data_set_reads_back(tmp_path: Path) -> None:
    seen: list[int] = []
    folder = write_dataset(tmp_path / "drawn", count=3, seed=9, size=64, progress=seen.append)
    assert folder == tmp_path / "drawn"
    assert seen == [1, 2, 3]
    names = sorted(path.name for path in folder.iterdir())
    assert names == [f"{i:05d}.{kind}" for i in range(3) for kind in ("png", "pts")] + ["SYNTHETIC.txt"]
    assert [path.name for path in tmp_path.iterdir()] == ["drawn"]  # nothing temporary is left
    note = (folder / "SYNTHETIC.txt").read_text()
    assert "seed 9" in note
    assert "size 64" in note
    for i in range(3):
        face = render_face(int(np.random.SeedSequence([9, i]).generate_state(1)[0]), 64)
        np.testing.assert_array_equal(np.asarray(Image.open(folder / f"{i:05d}.png")), face.image)
        # The file counts pixels from 1.
        np.testing.assert_allclose(read_pts(folder / f"{i:05d}.pts") - 1, face.points, atol=6e-4)


def test_data_sets_of_neighbouring_seeds_share_no_face(tmp_path: Path) -> None:
    one, two = (write_dataset(tmp_path / str(seed), count=3, seed=seed, size=16) for seed in (0, 1))
    assert not {p.read_bytes() for p in one.glob("*.png")} & {p.read_bytes() for p in two.glob("*.png")}


def test_a_full_folder_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(BadInputError, match=r"not empty.*new or empty folder"):
        write_dataset(tmp_path, count=1, size=32)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    with pytest.raises(BadInputError, match="not a folder"):
        write_dataset(tmp_path / "mine.txt", count=1, size=32)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert len(list(write_dataset(empty, count=1, size=32).iterdir())) == 3


def test_an_interrupted_data_set_leaves_nothing(tmp_path: Path) -> None:
    def stop(done: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_dataset(tmp_path / "drawn", count=5, size=32, progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_the_environments_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(EnvironmentProblemError, match="No space left"):
        write_dataset(tmp_path / "drawn", count=1, size=32)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "call",
    [
        lambda: render_face(-1),
        lambda: render_face(0, 8),
        lambda: render_face(0, 5000),
        lambda: render_sequence(0, 0),
        lambda: render_background(-3),
        lambda: contact_sheet([]),
        lambda: contact_sheet([1], columns=0),
        lambda: write_dataset(Path("never-made"), count=0),
        lambda: write_dataset(Path("never-made"), count=1, seed=-2),
    ],
)
def test_arguments_out_of_range_are_refused(call: object) -> None:
    with pytest.raises(BadInputError, match="expected"):
        call()  # type: ignore[operator]
    assert not Path("never-made").exists()


def test_contact_sheet_holds_the_faces_in_reading_order() -> None:
    sheet = contact_sheet([4, 5, 6], columns=2, size=32)
    assert sheet.shape == (64, 64, 3)
    np.testing.assert_array_equal(sheet[:32, 32:], render_face(5, 32).image)
    np.testing.assert_array_equal(sheet[32:, :32], render_face(6, 32).image)
    assert (sheet[32:, 32:] == 255).all()
    marked = contact_sheet([4], columns=1, size=64, overlay=True)
    face = render_face(4, 64)
    x, y = np.round(face.points[30]).astype(int)
    assert marked[y, x, 1] > 240  # a green dot on the nose


def test_the_command_writes_a_sheet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "sheet.png"
    assert main([str(out), "--count", "2", "--columns", "2", "--size", "32"]) == 0
    assert Image.open(out).size == (64, 32)
    assert main([str(out), "--size", "3"]) == 2
    assert "16 to 1024" in capsys.readouterr().err


# The parts.


def test_curve_passes_through_its_points_and_is_linear_where_they_are() -> None:
    points = np.array([(0.0, 0.0), (1.0, 2.0), (3.0, 1.0), (4.0, 4.0)])
    np.testing.assert_allclose(curve(points, 5)[::5], points)
    np.testing.assert_allclose(curve(points, 5, closed=True)[::5], points)
    line = curve([(0, 0), (1, 1), (2, 2)], 4)
    np.testing.assert_allclose(line, np.linspace(0, 2, 9)[:, None] * (1, 1), atol=1e-12)


def flat_sheet(x0: float, x1: float, depth: float, colour: tuple[int, int, int, int]) -> Sheet:
    """A rectangle from x0 to x1, over rows 1 to 4 of the picture's edges."""
    x, y = np.meshgrid([x0, x1], [0.5, 4.5])
    return Sheet(
        np.stack([x, y], -1),
        np.full((2, 2), depth),
        np.ones((2, 2, 3)),
        np.zeros((2, 2)),
        np.array([[colour]], np.uint8),
    )


def test_the_nearest_sheet_wins_and_edges_fall_where_they_should() -> None:
    canvas, labels = np.zeros((12, 16), np.uint32), np.zeros((6, 8), np.uint8)
    far, near = flat_sheet(0.5, 5.5, 0.0, (10, 20, 30, 1)), flat_sheet(2.5, 3.5, 1.0, (90, 80, 70, 2))
    glass, gone = flat_sheet(3.5, 4.5, 2.0, (5, 6, 7, UNLABELLED)), flat_sheet(0.5, 1.5, 3.0, (1, 1, 1, CLEAR))
    for order in ([far, near, glass, gone], [gone, glass, near, far]):
        canvas[:], labels[:] = 0, 0
        draw(order, canvas, labels)
        # Edges at 0.5, 2.5, ... are those of whole pixels: pixel 1 spans 0.5 to 1.5.
        np.testing.assert_array_equal(labels[2], [0, 1, 1, 2, 1, 1, 0, 0])
        np.testing.assert_array_equal(labels[:, 1], [0, 1, 1, 1, 1, 0])
        red = canvas.view(np.uint8).reshape(12, 16, 4)[..., 0]
        np.testing.assert_array_equal(red[5], np.repeat([0, 10, 10, 90, 5, 10, 0, 0], 2))
        np.testing.assert_array_equal(red[:, 2], np.repeat([0, 10, 10, 10, 10, 0], 2))


def test_a_sheet_seen_from_behind_is_not_drawn_unless_it_has_two_sides() -> None:
    x, y = np.meshgrid([5.5, 0.5], [0.5, 4.5])  # columns run to the left
    for two_sided, expected in ((0, 1), (99, 0)):
        labels = np.zeros((6, 8), np.uint8)
        texture = np.array([[(9, 9, 9, 1)]], np.uint8)
        back = Sheet(np.stack([x, y], -1), np.zeros((2, 2)), np.ones((2, 2, 3)), np.zeros((2, 2)), texture, two_sided)
        draw([back], np.zeros((12, 16), np.uint32), labels)
        assert labels.max() == expected


def test_head_surface_and_its_inverse_agree() -> None:
    head = Head(Identity(jaw=1.0, length=-1.0), Expression(open=0.3))
    theta, v = head.locate(head.points)
    np.testing.assert_allclose(head.surface(theta, v)[:, :2], head.points, atol=2e-3)
    assert np.abs(theta[:8]).min() > 89  # the jaw's points are on the outline
    tip = head.surface(theta, v)[:, 2].argmax()
    assert tip in (29, 30)  # the nose is what stands out most
