"""PyAV, imported when it is needed, and its errors in our own words.

PyAV rather than OpenCV: 107 MB installed against 160, and the only one of the two that gives every frame its own time,
reads a phone's rotation, and carries sound over without decoding it.
"""

from __future__ import annotations

import os
from types import ModuleType

from pocketface.sdk.errors import BadInputError, MissingExtraError, PocketfaceError
from pocketface.sdk.files import os_problem


class VideoError(BadInputError):
    """A video is missing, broken, cut short, or holds no picture."""


def pyav() -> ModuleType:
    """The module ``av``.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise MissingExtraError("video", "video", str(error)) from error
    return av


def reading_problem(error: Exception, path: str | os.PathLike[str]) -> PocketfaceError:
    """The typed error for what PyAV raised while reading ``path``: raise it ``from error``."""
    if isinstance(error, FileNotFoundError):
        return VideoError(f"{path}: no such file", expected="a video file", next="Check the path")
    if isinstance(error, OSError):
        return os_problem(error, path, "read")
    return VideoError(
        f"{path} is broken or no video ({getattr(error, 'strerror', None) or error})",
        expected="a video file",
        next="Fetch or save it again, or convert it first: ffmpeg -i FILE out.mp4",
    )


def writing_problem(error: Exception, path: str | os.PathLike[str]) -> PocketfaceError:
    """The typed error for what PyAV raised while writing ``path``: raise it ``from error``."""
    if isinstance(error, OSError):
        return os_problem(error, path)
    return VideoError(f"{path}: cannot write ({getattr(error, 'strerror', None) or error})", next="Try another suffix")
