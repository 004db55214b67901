"""Video: follow faces through a file or a camera, in constant memory.

>>> from pocketface.sdk import load
>>> from pocketface.sdk.video import Tracker, VideoReader
>>> tracker = Tracker(load("face68"))
>>> for frame in VideoReader("clip.mp4"):
...     faces = tracker(frame.image, frame.time)

Needs the extra ``video`` for files and cameras; the tracker alone takes frames from anywhere and needs none.
"""

from pocketface.sdk.video.camera import open_camera
from pocketface.sdk.video.one_euro import OneEuro, OneEuroSettings
from pocketface.sdk.video.pyav import VideoError
from pocketface.sdk.video.reader import VideoFrame, VideoReader
from pocketface.sdk.video.run import VideoSummary, run_video
from pocketface.sdk.video.settings import TrackerSettings
from pocketface.sdk.video.tracker import TrackedFace, Tracker
from pocketface.sdk.video.writer import VideoWriter

__all__ = [
    "OneEuro",
    "OneEuroSettings",
    "TrackedFace",
    "Tracker",
    "TrackerSettings",
    "VideoError",
    "VideoFrame",
    "VideoReader",
    "VideoSummary",
    "VideoWriter",
    "open_camera",
    "run_video",
]
