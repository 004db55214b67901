"""Reading videos that the test wrote with PyAV itself, or by hand."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from pocketface.sdk.errors import EnvironmentProblemError, MissingExtraError
from pocketface.sdk.video import camera
from pocketface.sdk.video.pyav import VideoError, pyav
from pocketface.sdk.video.reader import VideoReader

av = pytest.importorskip("av")

CONTAINERS = {
    ".mp4": ("mp4", "libx264"),
    ".mov": ("mov", "libx264"),
    ".mkv": ("matroska", "libx264"),
    ".webm": ("webm", "libvpx-vp9"),
    ".avi": ("avi", "mpeg4"),
}


def quarters(width: int = 64, height: int = 48, shade: int = 0) -> np.ndarray:
    """Red, green / blue, white: tells every turn and flip apart; the shade tells frames apart."""
    image = np.zeros((height, width, 3), np.uint8)
    half, mid = height // 2, width // 2
    image[:half, :mid], image[:half, mid:] = (200, 0, 0), (0, 200, 0)
    image[half:, :mid], image[half:, mid:] = (0, 0, 200), (200, 200, 200)
    return image + np.uint8(shade)


def write(path: Path, ticks: list[int], time_base: Fraction = Fraction(1, 600), sound: bool = False, **options) -> Path:
    kind, codec = CONTAINERS[path.suffix]
    with av.open(str(path), "w", format=kind, options=options) as out:
        stream = out.add_stream(codec, rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.time_base = stream.codec_context.time_base = time_base
        tone = out.add_stream("aac", rate=8000, layout="mono") if sound else None
        for number, tick in enumerate(ticks):
            frame = av.VideoFrame.from_ndarray(quarters(shade=number % 50), format="rgb24")
            frame.pts, frame.time_base = tick, time_base
            out.mux(stream.encode(frame))
        if tone is not None:
            wave = (8000 * np.sin(np.arange(1024) / 5)).astype(np.int16)[None]
            for block in range(16):
                sample = av.AudioFrame.from_ndarray(wave, format="s16", layout="mono")
                sample.sample_rate, sample.pts, sample.time_base = 8000, block * 1024, Fraction(1, 8000)
                out.mux(tone.encode(sample))
            out.mux(tone.encode(None))
        out.mux(stream.encode(None))
    return path


def turned(path: Path, matrix: tuple[int, ...]) -> Path:
    """An .mp4 whose track header says how to turn it, as a phone's does: ISO 14496-12, 8.3.2."""
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") + 4 + 4 + 20 + 8 + 8  # version, times and ids, reserved, layer to volume
    one = 0x10000
    rows = [matrix[0] * one, matrix[1] * one, 0, matrix[2] * one, matrix[3] * one, 0, 0, 0, 1 << 30]
    assert struct.unpack(">9i", data[start : start + 36]) == (one, 0, 0, 0, one, 0, 0, 0, 1 << 30)
    data[start : start + 36] = struct.pack(">9i", *rows)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("suffix", CONTAINERS)
def test_every_frame_comes_once_in_order(tmp_path, suffix):
    path = write(tmp_path / f"a{suffix}", list(range(12)), Fraction(1, 30))
    with VideoReader(path) as video:
        assert (video.width, video.height, video.audio) == (64, 48, None)
        frames = list(video)
    assert len(frames) == 12
    for number, frame in enumerate(frames):
        assert frame.time == pytest.approx(number / 30, abs=6e-4)
        difference = frame.image.astype(int) - quarters(shade=number)
        assert np.abs(difference[4:20, 4:28]).mean() < 12  # colours survive 4:2:0 and the encoder, about


def test_frames_of_uneven_times_keep_them(tmp_path):
    ticks = [0, 20, 25, 90, 91, 300]
    with VideoReader(write(tmp_path / "a.mp4", ticks)) as video:
        frames = list(video)
        assert [Fraction(frame.ticks) * video.time_base * 600 for frame in frames] == ticks
        assert [frame.time for frame in frames] == pytest.approx([tick / 600 for tick in ticks])


@pytest.mark.parametrize(
    ("matrix", "turn"),
    [((0, 1, -1, 0), -1), ((-1, 0, 0, -1), 2), ((0, -1, 1, 0), 1)],
    ids=["90 clockwise", "180", "90 counter-clockwise"],
)
def test_a_phones_rotation_is_applied(tmp_path, matrix, turn):
    path = turned(write(tmp_path / "a.mp4", [0, 20, 40]), matrix)
    with VideoReader(path) as video:
        first = next(iter(video)).image
    want = np.rot90(quarters(), turn)
    assert (video.height, video.width) == first.shape[:2] == want.shape[:2]
    assert np.abs(first.astype(int) - want).mean() < 12


def test_a_turn_that_is_no_quarter_is_refused(tmp_path):
    with pytest.raises(VideoError, match="to be turned by"):
        VideoReader(turned(write(tmp_path / "a.mp4", [0, 20]), (1, 1, -1, 1)))


def test_sound_is_handed_on(tmp_path):
    packets = []
    with VideoReader(write(tmp_path / "a.mp4", list(range(0, 600, 20)), sound=True)) as video:
        assert video.audio is not None
        video.on_audio = packets.append
        assert len(list(video)) == 30
    with av.open(str(tmp_path / "a.mp4")) as file:
        want = [bytes(packet) for packet in file.demux(audio=0) if packet.dts is not None]
    assert [bytes(packet) for packet in packets] == want
    assert len(want) >= 16


@pytest.mark.parametrize(
    ("suffix", "options"),
    [(".mp4", {"movflags": "faststart"}), (".mp4", {}), (".mkv", {}), (".webm", {}), (".avi", {})],
)
def test_a_file_that_is_cut_off_is_refused(tmp_path, suffix, options):
    noise = np.random.default_rng(0)
    kind, codec = CONTAINERS[suffix]
    path = tmp_path / f"a{suffix}"
    with av.open(str(path), "w", format=kind, options=options) as out:
        stream = out.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(60):
            frame = av.VideoFrame.from_ndarray(noise.integers(0, 256, (48, 64, 3), np.uint8), format="rgb24")
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    with VideoReader(path) as video:
        assert len(list(video)) == 60
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(VideoError, match=r"cut off|broken"), VideoReader(path) as video:
        list(video)


def test_files_that_are_no_videos_say_why(tmp_path):
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "text.mp4").write_text("not a video at all\n" * 50)
    for name, text in [
        ("none.mp4", "no such file"),
        (".", "is a folder"),
        ("empty.mp4", "is empty"),
        ("text.mp4", "broken or no video"),
    ]:
        with pytest.raises(VideoError, match=text):
            VideoReader(tmp_path / name)


def test_sound_alone_holds_no_picture(tmp_path):
    with av.open(str(tmp_path / "a.mp4"), "w", format="mp4") as out:
        tone = out.add_stream("aac", rate=8000, layout="mono")
        sample = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.int16), format="s16", layout="mono")
        sample.sample_rate = 8000
        out.mux(tone.encode(sample))
        out.mux(tone.encode(None))
    with pytest.raises(VideoError, match="holds no picture"):
        VideoReader(tmp_path / "a.mp4")


def test_a_name_with_a_colon_is_a_file(tmp_path):
    path = write(tmp_path / "http:a.mp4", [0, 20])
    with VideoReader(path) as video:
        assert len(list(video)) == 2


def test_without_pyav_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'pocketface\[video\]'"):
        pyav()


def test_a_machine_without_the_camera_says_so():
    with pytest.raises(EnvironmentProblemError, match="camera 973 cannot be opened"):
        camera.open_camera(973)
    with pytest.raises(EnvironmentProblemError, match="platform plan9"):
        camera.device(av, 0, "plan9")
    assert camera.device(av, 1, "darwin") == ("1:none", "avfoundation", {"framerate": "30"})


def test_a_camera_counts_from_its_first_frame_and_may_stop_at_any(monkeypatch):
    """FFmpeg's own test picture, through the input-device interface that cameras have."""
    monkeypatch.setattr(camera, "device", lambda *_: ("testsrc=size=64x48:rate=25,setpts=PTS+1000/TB", "lavfi", {}))
    with camera.open_camera(0) as video:
        times = [frame.time for frame, _ in zip(video, range(6), strict=False)]
    assert video.live
    assert times == pytest.approx([0, 0.04, 0.08, 0.12, 0.16, 0.2])
