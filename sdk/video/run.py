"""From a video file or a camera to a drawn video and JSON lines, frame by frame, in constant memory.

reader --frame--> tracker --faces--> overlays --> writer
   `--sound------------------------------------------^      `--> one JSON line a frame
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pocketface.sdk.any_predictor import AnyPredictor
from pocketface.sdk.detection import Detector
from pocketface.sdk.errors import BadInputError
from pocketface.sdk.geometry import Box
from pocketface.sdk.mask_predictor import MaskPredictor
from pocketface.sdk.video.drawing import TrackOverlay
from pocketface.sdk.video.lines import JsonLines
from pocketface.sdk.video.reader import VideoReader
from pocketface.sdk.video.settings import TrackerSettings
from pocketface.sdk.video.tracker import Tracker
from pocketface.sdk.video.writer import VideoWriter


@dataclass(frozen=True)
class VideoSummary:
    """What a run did.

    Attributes:
        frames: how many were read.
        with_faces: in how many of them a face was seen.
        ids: how many faces were told apart.
        seconds: it took.
        video_s: time of the last frame, as the video counts.
        audio: what became of the sound: ``copied``, ``dropped`` (the container cannot hold it, or a part of the video
            was asked for), or ``none`` (there is none, or no video was written).
        interrupted: a camera's run was ended by Ctrl-C.
    """

    frames: int
    with_faces: int
    ids: int
    seconds: float
    video_s: float
    audio: str
    interrupted: bool = False

    def __str__(self) -> str:
        text = (
            f"{self.frames} frames, {self.with_faces} with a face, {self.ids} {'id' if self.ids == 1 else 'ids'}, "
            f"{self.frames / max(self.seconds, 1e-9):.1f} frames a second"
        )
        return text + (f"; sound {self.audio}" if self.audio != "none" else "")


def run_video(
    reader: VideoReader,
    predictor: AnyPredictor,
    *,
    out: Path | None = None,
    json: str | None = None,
    detector: Detector | None = None,
    boxes: Sequence[Box] | None = None,
    settings: TrackerSettings | None = None,
    seconds: float | None = None,
    threads: int = 1,
    force: bool = False,
    progress: Callable[[int], None] | None = None,
) -> VideoSummary:
    """Follow the faces of a video, draw them, and write what was found.

    Ctrl-C while a file is read leaves nothing behind; while a camera is, it ends the recording, which is kept.

    Args:
        reader: an open video or camera; closing it stays with the caller.
        predictor: of landmarks or masks.
        out: drawn video; the frames keep their times, the sound is copied where the container can hold it.
        json: JSON lines, one a frame (``frame``, ``time``, ``faces``); - is standard output.
        detector: finds faces; None: they are looked for in ``boxes``.
        boxes: without a detector, where to look when no face is followed; None takes the whole picture.
        settings: of the tracker.
        seconds: stop after the frames of so many seconds.
        threads: threads the encoder may use.
        force: replace files that exist.
        progress: told the number of frames done.

    Raises:
        BadInputError: a box outside the picture, seconds that are not above 0, or see `VideoReader`, `VideoWriter`,
            `JsonLines`, `Tracker`.
    """
    if seconds is not None and not seconds > 0:
        raise BadInputError(f"seconds {seconds!r}", expected="a number above 0")
    for box in boxes or ():
        box.checked((reader.width, reader.height))
    tracker = Tracker(predictor, detector, settings, boxes=boxes)
    overlay = TrackOverlay(None if isinstance(predictor, MaskPredictor) else predictor.stage.marks)
    frames = with_faces = last_id = 0
    started, shown, interrupted = time.monotonic(), 0.0, False
    with contextlib.ExitStack() as stack:
        # Sound of a part of a video would go on after its pictures.
        writer = None if out is None else stack.enter_context(_writer(out, reader, seconds is None, threads, force))
        lines = None if json is None else stack.enter_context(JsonLines(json, force=force))
        if writer is not None:
            reader.on_audio = writer.copy_audio
        try:
            for frame in reader:
                if seconds is not None and frame.time >= seconds:
                    break
                faces = tracker(frame.image, frame.time)
                if writer is not None:
                    writer.write(overlay(frame.image, faces), frame.ticks)
                if lines is not None:
                    found = [face.to_dict() for face in faces]
                    lines.write({"frame": frames, "time": frame.time, "faces": found})
                frames, shown = frames + 1, frame.time
                with_faces += bool(faces)
                last_id = max([last_id, *(face.id for face in faces)])
                if progress is not None:
                    progress(frames)
        except KeyboardInterrupt:
            if not reader.live or not frames:
                raise
            interrupted = True
    audio = "none" if writer is None or reader.audio is None else "copied" if writer.has_audio else "dropped"
    return VideoSummary(frames, with_faces, last_id, time.monotonic() - started, shown, audio, interrupted)


def _writer(out: Path, reader: VideoReader, sound: bool, threads: int, force: bool) -> VideoWriter:
    return VideoWriter(
        out,
        reader.width,
        reader.height,
        time_base=reader.time_base,
        rate=reader.rate,
        aspect=reader.aspect,
        audio=reader.audio if sound else None,
        threads=threads,
        force=force,
    )
