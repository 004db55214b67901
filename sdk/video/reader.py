"""Video files and cameras to frames, one at a time: nothing is held but the frame at hand.

file --demux--> packets --decode--> frames --rotation--> (H, W, 3) uint8 RGB, with the time it is shown at
                   `--sound--> on_audio, not decoded
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketface.sdk.video.pyav import VideoError, pyav, reading_problem

_SLACK_S, _SLACK_SHARE = 0.5, 0.05
"""How much shorter than its header says a video may be: edits and a last frame's duration make a little."""


@dataclass(frozen=True, eq=False)
class VideoFrame:
    """One frame.

    Attributes:
        image: (H, W, 3) uint8 RGB, upright.
        ticks: when it is shown, in units of the reader's ``time_base``.
        time: the same in seconds.
    """

    image: NDArray[np.uint8]
    ticks: int
    time: float


class VideoReader:
    """The frames of a video file, in order, each with its own time (the rate may vary).

    A rotation in the file is applied, as `read_image` does with EXIF. Pixels that are not square stay so. Frames
    without a time, or with one that does not pass, are shown one tick after the one before.

    Args:
        path: a video file.
        threads: threads the decoder may use.
        source: a PyAV container that is open already, for `open_camera`.

    Attributes:
        width, height: of the upright frames.
        time_base: seconds a tick.
        rate: frames a second on average, as the header says; None if it does not.
        count: about how many frames there are; None if the header does not say.
        aspect: width of an upright pixel over its height.
        audio: PyAV's sound stream, or None.
        on_audio: called with every packet of the sound, where set.
        live: it is a camera.

    Raises:
        VideoError: no such file, a folder, empty, broken, no picture in it, or cut off.
        MissingExtraError: PyAV is not installed.

    Example:
        >>> with VideoReader("clip.mp4") as video:
        ...     for frame in video:
        ...         print(frame.time, frame.image.shape)
    """

    def __init__(self, path: str | os.PathLike[str], *, threads: int = 1, source: Any = None) -> None:
        self._av = pyav()
        self.path, self.live = Path(path), source is not None
        self.on_audio: Callable[[Any], None] | None = None
        self._container = source if source is not None else self._opened()
        try:
            if not self._container.streams.video:
                raise VideoError(
                    f"{path} holds no picture", expected="a video stream", next="Give a video, not a sound file"
                )
            self._video = self._container.streams.video[0]
            self._video.codec_context.thread_count = threads
            self.audio = self._container.streams.audio[0] if self._container.streams.audio else None
            self._refuse_cut_off()
            first, self._turns = self._peeked()
        except BaseException:
            self.close()
            raise
        self._pixels = (first.width, first.height)
        aspect = Fraction(self._video.sample_aspect_ratio or 1)
        lying = self._turns % 2 == 1
        self.width, self.height = reversed(self._pixels) if lying else self._pixels
        self.aspect = 1 / aspect if lying else aspect
        self.time_base = Fraction(self._video.time_base)
        self.rate = Fraction(self._video.average_rate) if self._video.average_rate else None
        self.count = self._counted()

    def _opened(self) -> Any:
        if self.path.is_dir():
            raise VideoError(f"{self.path} is a folder", expected="a video file", next="Name one video in it")
        if self.path.is_file() and self.path.stat().st_size == 0:
            raise VideoError(f"{self.path} is empty", expected="a video file", next="Fetch or save it again")
        try:
            # "file:" so that a name with a colon is never taken for a protocol.
            return self._av.open(f"file:{self.path}")
        except self._av.FFmpegError as error:
            raise reading_problem(error, self.path) from error

    def _refuse_cut_off(self) -> None:
        """An index that points beyond the end of the file: part of it is missing."""
        if self.live:
            return
        size = self.path.stat().st_size
        if any(entry.pos + entry.size > size for entry in self._video.index_entries):
            raise self._cut_off("its index names frames beyond its end")

    def _cut_off(self, how: str) -> VideoError:
        return VideoError(
            f"{self.path} is cut off ({how})",
            expected="a complete video",
            next=f"Fetch it again, or keep what is there: ffmpeg -i {self.path.name} -c copy whole.mkv",
        )

    def _peeked(self) -> tuple[Any, int]:
        """The first frame, which alone knows its size and rotation, and the quarter turns to the left it asks for."""
        self._items = self._demuxed()
        self._early: list[Any] = []
        for item in self._items:
            self._early.append(item)
            if isinstance(item, self._av.VideoFrame):
                break
        else:
            raise VideoError(f"{self.path} has no frames", expected="at least one", next="Record or fetch it again")
        turns, rest = divmod(round(item.rotation), 90)
        if rest:
            raise VideoError(
                f"{self.path} asks to be turned by {item.rotation} degrees",
                expected="a multiple of 90",
                next=f"Convert it first: ffmpeg -i {self.path.name} out.mp4",
            )
        return item, turns % 4

    def _counted(self) -> int | None:
        if self._video.frames:
            return int(self._video.frames)
        if self._container.duration and self.rate:
            return round(self._container.duration * self.rate / 1_000_000)
        return None

    def _demuxed(self) -> Iterator[Any]:
        """PyAV's frames, and the packets of the sound between them."""
        streams = [self._video] if self.audio is None else [self._video, self.audio]
        self._end, self._read = 0.0, 0
        try:
            for packet in self._container.demux(streams):
                if packet.pts is not None:
                    self._end = max(self._end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
                if packet.stream is self.audio or packet.stream.type == "audio":
                    if packet.dts is not None:  # not the empty one at the end
                        yield packet
                    continue
                for frame in packet.decode():
                    self._read += 1
                    yield frame
        except self._av.EOFError:
            return
        except self._av.FFmpegError as error:
            if self._read and not self.live and isinstance(error, self._av.InvalidDataError):
                raise self._cut_off(f"broken after {self._read} frames") from error
            raise reading_problem(error, self.path) from error

    def __iter__(self) -> Iterator[VideoFrame]:
        """The frames that have not been read yet.

        Raises:
            VideoError: the video is broken or cut off, or its pictures change their size.
        """
        last: int | None = None
        origin = 0
        while True:
            item = self._early.pop(0) if self._early else next(self._items, None)
            if item is None:
                break
            if not isinstance(item, self._av.VideoFrame):
                if self.on_audio is not None:
                    self.on_audio(item)
                continue
            ticks = item.pts
            if ticks is not None and last is None and self.live:
                origin = ticks  # a camera counts from when the machine was switched on
            ticks = None if ticks is None else ticks - origin
            if ticks is None or (last is not None and ticks <= last):
                ticks = 0 if last is None else last + 1
            last = ticks
            yield VideoFrame(self._upright(item), ticks, float(ticks * self.time_base))
        self._refuse_short()

    def _upright(self, frame: Any) -> NDArray[np.uint8]:
        if (frame.width, frame.height) != self._pixels:
            raise VideoError(
                f"{self.path} changes from {self._pixels[0]} x {self._pixels[1]} to {frame.width} x {frame.height} "
                f"pixels at frame {self._read}",
                expected="frames of one size",
                next=f"Convert it first: ffmpeg -i {self.path.name} out.mp4",
            )
        pixels = frame.to_ndarray(format="rgb24")
        return np.ascontiguousarray(np.rot90(pixels, self._turns)) if self._turns else pixels

    def _refuse_short(self) -> None:
        """At the end: was all of it there that the header promised?"""
        if self.live:
            return
        said = int(self._video.frames)
        if said and self._read < said * (1 - _SLACK_SHARE) - 2:
            raise self._cut_off(f"{self._read} of {said} frames")
        if not said and self._container.duration:
            start = (self._container.start_time or 0) / 1e6
            length, read = self._container.duration / 1e6, self._end - start
            if read < length * (1 - _SLACK_SHARE) - _SLACK_S:
                raise self._cut_off(f"{read:.1f} of {length:.1f} s")

    def close(self) -> None:
        """Let the file or the camera go."""
        self._container.close()

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
