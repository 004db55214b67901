"""Which files are videos, by suffix, and what each is written with. Imports nothing."""

from __future__ import annotations

import os
from pathlib import Path

from pocketface.sdk.errors import BadInputError

READ = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".3gp")
"""Suffixes that are taken for videos; what is in such a file decides how it is read."""

H264 = {"crf": "18", "preset": "veryfast"}
VP9 = {"crf": "24", "b": "0", "deadline": "realtime", "cpu-used": "6"}

WRITTEN = {
    ".mp4": ("mp4", "libx264", H264),
    ".m4v": ("mp4", "libx264", H264),
    ".mov": ("mov", "libx264", H264),
    ".mkv": ("matroska", "libx264", H264),
    ".webm": ("webm", "libvpx-vp9", VP9),
}
"""Suffix -> container, encoder, its options: of visually lossless quality. Containers that keep every frame's time."""


def is_video(path: str | os.PathLike[str]) -> bool:
    """Whether a file's suffix is a video's."""
    return Path(path).suffix.lower() in READ


def checked_format(path: str | os.PathLike[str]) -> tuple[str, str, dict[str, str]]:
    """Container, encoder and options for a video to be written.

    Raises:
        BadInputError: the suffix is none of ``WRITTEN``.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in WRITTEN:
        raise BadInputError(
            f"{path}: cannot write videos of type {suffix or 'none'!r}",
            choices=WRITTEN,
            next="Change the file's suffix",
        )
    return WRITTEN[suffix]
