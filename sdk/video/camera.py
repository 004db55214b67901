"""Cameras, through the same library as files: v4l2 on Linux, AVFoundation on macOS, DirectShow on Windows."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from pocketface.sdk.errors import BadInputError, EnvironmentProblemError
from pocketface.sdk.video.pyav import pyav
from pocketface.sdk.video.reader import VideoReader


def open_camera(number: int) -> VideoReader:
    """Frames of a camera, from now on, until the reader is closed; times count from the first.

    Args:
        number: 0 is the first camera.

    Raises:
        BadInputError: a number below 0.
        EnvironmentProblemError: there is no such camera, it is in use, or may not be used.
        MissingExtraError: PyAV is not installed.
    """
    if number < 0:
        raise BadInputError(f"camera {number}", expected="0 or more", next="The first camera is --camera 0")
    av = pyav()
    try:
        name, format, options = device(av, number, sys.platform)
        container = av.open(name, format=format, options=options)
    except (av.FFmpegError, ValueError) as error:
        raise no_camera(number, getattr(error, "strerror", None) or str(error)) from error
    return VideoReader(Path(name), source=container)


def device(av: Any, number: int, platform: str) -> tuple[str, str, dict[str, str]]:
    """What FFmpeg calls a camera: name, format and options.

    Raises:
        EnvironmentProblemError: this platform has no cameras that we know of, or not so many.
    """
    if platform.startswith("linux"):
        name = f"/dev/video{number}"
        if not os.path.exists(name):
            raise no_camera(number, f"there is no {name}")
        return name, "v4l2", {}
    if platform == "darwin":
        return f"{number}:none", "avfoundation", {"framerate": "30"}
    if platform == "win32":  # by name only
        names = [entry.name for entry in av.enumerate_input_devices("dshow") if "video" in entry.media_types]
        if number >= len(names):
            raise no_camera(number, f"there are {len(names)}")
        return f"video={names[number]}", "dshow", {}
    raise no_camera(number, f"platform {platform}")


def no_camera(number: int, why: str) -> EnvironmentProblemError:
    """The error of a camera that cannot be opened."""
    return EnvironmentProblemError(
        f"camera {number} cannot be opened ({why})",
        expected="a camera that is connected, free and allowed",
        next="Connect one and allow its use, choose another number, or give a video file",
    )
