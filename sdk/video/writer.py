"""Frames to a video file, one at a time, under a temporary name until it is complete.

(H, W, 3) uint8 RGB --BT.709, 4:2:0--> encoder --> file; packets of sound are copied as they are
"""

from __future__ import annotations

import os
import secrets
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketface.sdk.errors import BadInputError, EnvironmentProblemError
from pocketface.sdk.files import os_problem, refuse_existing
from pocketface.sdk.images import check_array
from pocketface.sdk.video.formats import checked_format
from pocketface.sdk.video.pyav import VideoError, pyav, writing_problem

_BT709, _LIMITED = 1, 1


class VideoWriter:
    """Writes one video: a context manager, whose file gets its own name when the block ends well, and is removed when
    it does not, Ctrl-C included.

    4:2:0 pictures have even sides: of an odd one the last column or row is written twice.

    Args:
        path: where to; the suffix chooses container and encoder (``formats.WRITTEN``).
        width, height: of the frames.
        time_base: seconds a tick of the frames' times.
        rate: frames a second, about: what players are told.
        aspect: width of a pixel over its height.
        audio: PyAV's sound stream, whose packets will come to ``copy_audio``; None for none.
        threads: threads the encoder may use.
        force: replace a file that is already there.

    Attributes:
        frames: how many have been written.
        has_audio: whether the sound is copied: the container takes its codec.

    Raises:
        BadInputError: an unknown suffix, a file that exists without ``force``, or a folder's name.
        EnvironmentProblemError: the disk is full, the place is not writable, or this PyAV lacks the encoder.
        MissingExtraError: PyAV is not installed.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        width: int,
        height: int,
        *,
        time_base: Fraction = Fraction(1, 90_000),
        rate: Fraction | None = None,
        aspect: Fraction = Fraction(1),
        audio: Any = None,
        threads: int = 1,
        force: bool = False,
    ) -> None:
        self.path, self.frames = Path(path), 0
        self._size, self._force = (width, height), force
        kind, encoder, options = checked_format(self.path)
        refuse_existing(self.path, force)
        if self.path.is_dir():
            raise BadInputError(f"{self.path} is a folder", expected="a file name", next="Name a file in it")
        self._av = pyav()
        self._temporary = self.path.with_name(f".{self.path.name[:64]}.{secrets.token_hex(4)}.tmp")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._container = self._av.open(f"file:{self._temporary}", "w", format=kind)
        except (self._av.FFmpegError, OSError) as error:
            raise writing_problem(error, self.path) from error
        try:
            self._video = self._stream(encoder, options, rate or Fraction(30), time_base, aspect, threads)
            self._audio = self._copied(audio)
        except BaseException:
            self._drop()
            raise
        self.has_audio = self._audio is not None

    def _stream(
        self, encoder: str, options: dict[str, str], rate: Fraction, time_base: Fraction, aspect: Fraction, threads: int
    ) -> Any:
        try:
            stream = self._container.add_stream(encoder, rate=rate.limit_denominator(1001), options=options)
        except (self._av.FFmpegError, ValueError) as error:
            raise EnvironmentProblemError(
                f"this PyAV has no encoder {encoder}", next="Install its wheel: pip install --force-reinstall av"
            ) from error
        width, height = (side + side % 2 for side in self._size)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.time_base = time_base
        context = stream.codec_context
        context.time_base, context.thread_count = time_base, threads
        context.sample_aspect_ratio = aspect
        context.color_primaries = context.color_trc = context.colorspace = _BT709
        context.color_range = _LIMITED
        return stream

    def _copied(self, audio: Any) -> Any:
        """A stream for the sound; None if there is none, or the container cannot hold it."""
        if audio is None or audio.codec_context.name not in self._container.supported_codecs:
            return None
        try:
            return self._container.add_stream_from_template(audio)
        except (self._av.FFmpegError, ValueError):
            return None

    def write(self, image: NDArray[np.uint8], ticks: int) -> None:
        """Write one frame.

        Args:
            image: (H, W, 3) uint8 RGB.
            ticks: when it is shown, in units of ``time_base``; later than the one before.

        Raises:
            BadInputError: an image of another size.
            EnvironmentProblemError: the disk is full.
        """
        check_array(image)
        width, height = self._size
        if image.shape[:2] != (height, width):
            raise BadInputError(
                f"a frame of {image.shape[1]} x {image.shape[0]} pixels", expected=f"{width} x {height}, as the video"
            )
        if width % 2 or height % 2:
            image = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace=_BT709, dst_color_range=_LIMITED)
        frame.pts, frame.time_base = ticks, self._video.codec_context.time_base
        self._encode(frame)
        self.frames += 1

    def copy_audio(self, packet: Any) -> None:
        """Write a packet of the sound as it is; nothing where ``has_audio`` is not set."""
        if self._audio is not None:
            packet.stream = self._audio
            self._do(lambda: self._container.mux(packet))

    def _encode(self, frame: Any) -> None:
        self._do(lambda: self._container.mux(self._video.encode(frame)))

    def _do(self, what: Any) -> None:
        try:
            what()
        except (self._av.FFmpegError, OSError) as error:
            raise writing_problem(error, self.path) from error

    def _finish(self) -> None:
        if not self.frames:
            raise VideoError(f"{self.path}: no frame was written", expected="at least one")
        self._encode(None)
        self._do(self._container.close)
        try:
            refuse_existing(self.path, self._force)  # it may have come while we worked
            with open(self._temporary, "rb") as file:
                os.fsync(file.fileno())
            os.replace(self._temporary, self.path)
        except OSError as error:
            raise os_problem(error, self.path) from error

    def _drop(self) -> None:
        try:
            self._container.close()
        except (self._av.FFmpegError, OSError):
            pass  # the file goes anyway, and why it goes is being told already
        finally:
            self._temporary.unlink(missing_ok=True)

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._drop()
            return
        try:
            self._finish()
        except BaseException:
            self._drop()
            raise
