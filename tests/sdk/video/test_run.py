"""``pocketface run`` on a video, as users type it, and what it writes."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from bundle_factory import make_bundle
from mask_factory import make_mask_bundle
from typer.testing import CliRunner, Result

from pocketface.benchmarks.data.synthetic import render_sequence
from pocketface.sdk import load
from pocketface.sdk.cli import app
from pocketface.sdk.detection import Detection
from pocketface.sdk.errors import BadInputError
from pocketface.sdk.geometry import Box
from pocketface.sdk.video import TrackerSettings, VideoReader, VideoWriter, camera, run_video
from pocketface.sdk.video.formats import READ

av = pytest.importorskip("av")

TICKS = [0, 20, 45, 60, 100, 101, 140, 160, 200, 230]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("run")
    make_bundle(place / "bundle", size=16)
    make_mask_bundle(place / "masks", gain=2.0)
    with VideoWriter(place / "clip.mp4", 96, 80, time_base=Fraction(1, 600)) as video:
        for face, ticks in zip(render_sequence(2, len(TICKS), size=96), TICKS, strict=True):
            video.write(face.image[:80], ticks)
    return place


def call(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def times(path: Path) -> list[float]:
    with av.open(str(path)) as file:
        return [frame.time for frame in file.decode(video=0)]


def test_a_clip_becomes_a_drawn_video_and_a_line_a_frame(made, tmp_path):
    out, report = tmp_path / "new" / "out.mp4", tmp_path / "new" / "out.jsonl"
    result = call("run", made / "clip.mp4", "--bundle", made / "bundle", "--out", out, "--json", report)
    assert result.exit_code == 0, result.output
    assert "10 frames, 10 with a face, 1 id" in result.stdout
    found = lines(report)
    assert [line["frame"] for line in found] == list(range(10))
    assert times(out) == pytest.approx([tick / 600 for tick in TICKS])
    assert [line["time"] for line in found] == pytest.approx([tick / 600 for tick in TICKS])
    assert all(face["id"] == 1 and len(face["points"]) == 68 for line in found for face in line["faces"])
    # The first frame is what the photo path finds in it.
    with VideoReader(made / "clip.mp4") as video:
        first = next(iter(video)).image
    (face,) = load(made / "bundle")(first)
    np.testing.assert_allclose(found[0]["faces"][0]["points"], face.points, atol=1e-4)
    # Something is drawn at every point that is in the picture.
    with VideoReader(out) as video:
        drawn = np.abs(next(iter(video)).image.astype(int) - first).max(axis=2)
    inside = [(x, y) for x, y in face.points.round().astype(int) if 1 <= x < 95 and 1 <= y < 79]
    assert inside
    assert all(drawn[y - 1 : y + 2, x - 1 : x + 2].max() > 15 for x, y in inside)
    assert sorted(path.name for path in out.parent.iterdir()) == ["out.jsonl", "out.mp4"]


def test_json_on_standard_output_leaves_only_lines_there(made):
    result = call("run", made / "clip.mp4", "--bundle", made / "bundle", "--json", "-", "--box", "10,10,80,75")
    assert result.exit_code == 0, result.output
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(found) == 10
    assert found[0]["faces"][0]["box"] == [10, 10, 80, 75]


def test_seconds_end_a_clip(made, tmp_path):
    result = call(
        "run", made / "clip.mp4", "--bundle", made / "bundle", "--out", tmp_path / "a.mkv", "--seconds", 101 / 600
    )
    assert result.exit_code == 0, result.output
    assert len(times(tmp_path / "a.mkv")) == 5


def test_masks_are_drawn_and_written_too(made, tmp_path):
    words = ["run", made / "clip.mp4", "--bundle", made / "masks", "--out", tmp_path / "a.mp4"]
    result = call(*words, "--json", tmp_path / "a.jsonl", "--seconds", 0.1)
    assert result.exit_code == 0, result.output
    assert [face["id"] for line in lines(tmp_path / "a.jsonl") for face in line["faces"]] == [1, 1, 1]
    assert "runs" in lines(tmp_path / "a.jsonl")[0]["faces"][0]


def test_sound_is_copied_byte_for_byte(made, tmp_path):
    source = tmp_path / "loud.mp4"
    with av.open(str(source), "w", format="mp4") as out, av.open(str(made / "clip.mp4")) as clip:
        video = out.add_stream_from_template(clip.streams.video[0])
        tone = out.add_stream("aac", rate=8000, layout="mono")
        for packet in clip.demux(video=0):
            if packet.dts is not None:
                packet.stream = video
                out.mux(packet)
        for block in range(4):
            wave = (9000 * np.sin(np.arange(1024) / 7)).astype(np.int16)[None]
            sample = av.AudioFrame.from_ndarray(wave, format="s16", layout="mono")
            sample.sample_rate, sample.pts, sample.time_base = 8000, 1024 * block, Fraction(1, 8000)
            out.mux(tone.encode(sample))
        out.mux(tone.encode(None))

    def sound(path: Path) -> list[bytes]:
        with av.open(str(path)) as file:
            return [bytes(packet) for packet in file.demux(audio=0) if packet.dts is not None]

    result = call("run", source, "--bundle", made / "bundle", "--out", tmp_path / "out.mp4")
    assert result.exit_code == 0, result.output
    assert "sound copied" in result.stdout
    assert sound(tmp_path / "out.mp4") == sound(source)
    # WebM holds no AAC: that is said.
    result = call("run", source, "--bundle", made / "bundle", "--out", tmp_path / "out.webm")
    assert "sound dropped" in result.stdout


def test_a_detector_takes_the_place_of_boxes(made):
    def detector(image):
        return [Detection(Box(10, 10, 80, 75), 0.9)]

    with VideoReader(made / "clip.mp4") as video:
        summary = run_video(video, load(made / "bundle"), detector=detector, settings=TrackerSettings(min_score=0))
    assert (summary.frames, summary.ids, summary.audio) == (10, 1, "none")


@pytest.mark.parametrize("reader", ["file", "camera"])
def test_ctrl_c_keeps_what_a_camera_gave_and_nothing_of_a_file(made, tmp_path, monkeypatch, reader):
    monkeypatch.setattr(camera, "device", lambda *_: ("testsrc=size=96x80:rate=25", "lavfi", {}))

    def press(done):
        if done == 4:
            raise KeyboardInterrupt

    out, report = tmp_path / "out.mp4", tmp_path / "out.jsonl"
    with VideoReader(made / "clip.mp4") if reader == "file" else camera.open_camera(0) as video:
        if reader == "file":
            with pytest.raises(KeyboardInterrupt):
                run_video(video, load(made / "bundle"), out=out, json=str(report), progress=press)
            assert not list(tmp_path.iterdir())
        else:
            summary = run_video(video, load(made / "bundle"), out=out, json=str(report), progress=press)
            assert (summary.frames, summary.interrupted) == (4, True)
            assert len(times(out)) == len(lines(report)) == 4


def test_a_camera_runs_for_so_many_seconds(made, tmp_path, monkeypatch):
    monkeypatch.setattr(camera, "device", lambda *_: ("testsrc=size=96x80:rate=25", "lavfi", {}))
    result = call("run", "--camera", 0, "--bundle", made / "bundle", "--out", tmp_path / "a.mp4", "--seconds", 0.4)
    assert result.exit_code == 0, result.output
    assert len(times(tmp_path / "a.mp4")) == 10


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["nothing.mp4"], 2, "nothing.mp4: no such file"),
        (["CLIP", "--out", "a.avi"], 2, "cannot write videos of type '.avi'. Valid: .mp4"),
        (["CLIP", "--out", "a.png"], 2, "cannot write videos of type '.png'"),
        (["CLIP", "--out", "CLIP", "--force"], 2, "is the video itself"),
        (["CLIP", "--box", "900,900,990,990"], 2, "outside the image of 96 x 80"),
        (["CLIP", "--seconds", "0"], 2, "seconds 0.0, expected a number above 0"),
        (["--camera", "-1"], 2, "camera -1"),
        (["--camera", "977"], 3, "camera 977 cannot be opened"),
        (["CLIP", "--variant", "w4"], 2, "no variant 'w4'"),
    ],
)
def test_what_cannot_be_run_is_refused_in_one_line(made, words, code, text):
    words = [str(made / "clip.mp4") if word == "CLIP" else word for word in words]
    result = call("run", *words, "--bundle", made / "bundle")
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("pocketface: ")
    assert result.stderr.count("\n") == 1
    assert text in result.stderr


def test_existing_files_are_refused_before_the_work(made, tmp_path):
    for option, name in (("--out", "a.mp4"), ("--json", "a.jsonl")):
        (tmp_path / name).write_text("mine")
        result = call("run", made / "clip.mp4", "--bundle", made / "bundle", option, tmp_path / name)
        assert result.exit_code == 2
        assert "exists already" in result.stderr
        assert (tmp_path / name).read_text() == "mine"


@pytest.mark.parametrize("suffix", READ)
def test_every_suffix_of_a_video_is_read_as_one(made, tmp_path, suffix):
    (tmp_path / f"a{suffix.upper()}").write_bytes(b"")
    result = call("run", tmp_path / f"a{suffix.upper()}", "--bundle", made / "bundle")
    assert result.exit_code == 2
    assert "is empty, expected a video file" in result.stderr


def test_a_box_outside_is_refused_by_the_function_too(made):
    with VideoReader(made / "clip.mp4") as video, pytest.raises(BadInputError, match="outside the image"):
        run_video(video, load(made / "bundle"), boxes=[Box(500, 500, 600, 600)])
