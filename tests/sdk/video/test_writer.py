"""Writing videos, read back with PyAV itself."""

from __future__ import annotations

import contextlib
import secrets
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from pocketface.sdk.errors import BadInputError, EnvironmentProblemError
from pocketface.sdk.video.formats import WRITTEN
from pocketface.sdk.video.lines import JsonLines
from pocketface.sdk.video.pyav import VideoError
from pocketface.sdk.video.writer import VideoWriter

av = pytest.importorskip("av")


def plain(red: int, width: int = 64, height: int = 48) -> np.ndarray:
    return np.full((height, width, 3), (red, 120, 60), np.uint8)


def read(path: Path) -> list[tuple[float, np.ndarray]]:
    with av.open(str(path)) as file:
        return [(frame.time, frame.to_ndarray(format="rgb24")) for frame in file.decode(video=0)]


@pytest.mark.parametrize("suffix", WRITTEN)
def test_frames_come_back_with_their_times_and_colours(tmp_path, suffix):
    ticks = [0, 20, 25, 90, 92, 300]
    with VideoWriter(tmp_path / "new" / f"a{suffix}", 64, 48, time_base=Fraction(1, 600), threads=1) as video:
        for number, tick in enumerate(ticks):
            video.write(plain(40 * number), tick)
    frames = read(tmp_path / "new" / f"a{suffix}")
    assert [time for time, _ in frames] == pytest.approx([tick / 600 for tick in ticks], abs=6e-4)
    for number, (_, image) in enumerate(frames):
        np.testing.assert_allclose(image.mean(axis=(0, 1)), (40 * number, 120, 60), atol=4)
    assert [path.name for path in (tmp_path / "new").iterdir()] == [f"a{suffix}"]


@pytest.mark.parametrize(("width", "height"), [(65, 48), (64, 49), (33, 17)])
def test_odd_sides_gain_a_column_or_row(tmp_path, width, height):
    random = np.random.default_rng(0).integers(60, 190, (height // 4 + 1, width // 4 + 1, 3), np.uint8)
    image = np.repeat(np.repeat(random, 4, axis=0), 4, axis=1)[:height, :width]
    with VideoWriter(tmp_path / "a.mp4", width, height) as video:
        video.write(image, 0)
    ((_, found),) = read(tmp_path / "a.mp4")
    assert found.shape == (height + height % 2, width + width % 2, 3)
    assert np.abs(found[:height, :width].astype(int) - image).mean() < 12


def test_colours_are_tagged_as_what_they_are(tmp_path):
    """Untagged, players would take a large video for BT.709 and a small one for BT.601."""
    with VideoWriter(tmp_path / "a.mp4", 64, 48) as video:
        video.write(plain(200), 0)
    with av.open(str(tmp_path / "a.mp4")) as file:
        context = file.streams.video[0].codec_context
        assert (context.colorspace, context.color_primaries, context.color_trc, context.color_range) == (1, 1, 1, 1)


def test_pixels_that_are_not_square_stay_so(tmp_path):
    with VideoWriter(tmp_path / "a.mp4", 64, 48, aspect=Fraction(4, 3)) as video:
        video.write(plain(0), 0)
    with av.open(str(tmp_path / "a.mp4")) as file:
        assert file.streams.video[0].sample_aspect_ratio == Fraction(4, 3)


@pytest.mark.parametrize("error", [RuntimeError("bad"), KeyboardInterrupt()])
def test_what_does_not_end_well_leaves_nothing(tmp_path, error):
    with contextlib.suppress(type(error)), VideoWriter(tmp_path / "a.mp4", 64, 48) as video:
        video.write(plain(0), 0)
        raise error
    assert not list(tmp_path.iterdir())
    with contextlib.suppress(type(error)), JsonLines(str(tmp_path / "a.jsonl")) as lines:
        lines.write({"a": 1})
        raise error
    assert not list(tmp_path.iterdir())


def test_a_file_that_exists_is_kept_unless_forced(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_text("mine")
    with pytest.raises(BadInputError, match="exists already"):
        VideoWriter(path, 64, 48)
    with contextlib.suppress(RuntimeError), VideoWriter(path, 64, 48, force=True) as video:
        video.write(plain(0), 0)
        raise RuntimeError
    assert path.read_text() == "mine"
    with VideoWriter(path, 64, 48, force=True) as video:
        video.write(plain(0), 0)
    assert len(read(path)) == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.mp4"]


def test_a_full_disk_is_the_machines_problem(tmp_path, monkeypatch):
    """/dev/full refuses every byte, as a full disk does."""
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    monkeypatch.setattr(secrets, "token_hex", lambda _: "0")
    (tmp_path / ".a.mp4.0.tmp").symlink_to("/dev/full")
    random = np.random.default_rng(0)

    def fill():
        with VideoWriter(tmp_path / "a.mp4", 256, 256) as video:
            for tick in range(40):
                video.write(random.integers(0, 256, (256, 256, 3), np.uint8), 3000 * tick)

    with pytest.raises(EnvironmentProblemError, match="the disk is full"):
        fill()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a.avi", "a.txt", "a", "a.png"])
def test_unknown_suffixes_are_refused(tmp_path, name):
    with pytest.raises(BadInputError, match=r"Valid: \.mp4"):
        VideoWriter(tmp_path / name, 64, 48)


def test_other_sizes_no_frames_and_folders_are_refused(tmp_path):
    with VideoWriter(tmp_path / "c.mp4", 64, 48) as video:
        video.write(plain(0), 0)
        with pytest.raises(BadInputError, match="frame of 32 x 48 pixels, expected 64 x 48"):
            video.write(plain(0, width=32), 1)
    with pytest.raises(VideoError, match="no frame"), VideoWriter(tmp_path / "a.mp4", 64, 48):
        pass
    (tmp_path / "b.mp4").mkdir()
    with pytest.raises(BadInputError, match="is a folder"):
        VideoWriter(tmp_path / "b.mp4", 64, 48, force=True)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["b.mp4", "c.mp4"]
