"""pocketface.sdk: the thin reference runtime. Load a bundle, find landmarks, draw them.

>>> from pocketface.sdk import load
>>> faces = load("runs/face68/bundle")("photo.jpg")
>>> faces[0].points, faces[0].score

Importing it loads neither torch nor any runtime; a runtime is imported when a bundle that needs it is loaded.
"""

from pocketface.sdk.bundle import Bundle, open_bundle
from pocketface.sdk.errors import PocketfaceError
from pocketface.sdk.geometry import Box, Crop
from pocketface.sdk.images import read_image, write_image
from pocketface.sdk.overlay import ContoursOverlay, PointsOverlay, ScoreOverlay
from pocketface.sdk.predictor import Predictor, load
from pocketface.sdk.results import Landmarks, Timings
from pocketface.sdk.schemes import SCHEMES, load_scheme

__all__ = [
    "SCHEMES",
    "Box",
    "Bundle",
    "ContoursOverlay",
    "Crop",
    "Landmarks",
    "PocketfaceError",
    "PointsOverlay",
    "Predictor",
    "ScoreOverlay",
    "Timings",
    "load",
    "load_scheme",
    "open_bundle",
    "read_image",
    "write_image",
]
