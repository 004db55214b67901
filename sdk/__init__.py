"""pocketface.sdk: the thin reference runtime. Load a bundle, find landmarks or masks, draw them, dye hair.

>>> from pocketface.sdk import load
>>> faces = load("face68")("photo.jpg")
>>> faces[0].points, faces[0].score
>>> dyed = HairDye((130, 40, 60))(image, load_mask("runs/hair/bundle")(image))

Importing it loads neither torch nor any runtime; a runtime is imported when a bundle that needs it is loaded.
"""

from pocketface.sdk.bundle import Bundle, open_bundle
from pocketface.sdk.classes import CLASS_SETS, load_classes
from pocketface.sdk.detection import Detection, Detector
from pocketface.sdk.errors import PocketfaceError
from pocketface.sdk.face_detector import FaceDetector, load_detector
from pocketface.sdk.geometry import Box, Crop
from pocketface.sdk.images import read_image, write_image
from pocketface.sdk.mask_predictor import MaskPredictor, load_mask
from pocketface.sdk.overlay import ContoursOverlay, MaskOverlay, PointsOverlay, ScoreOverlay, SideBySide
from pocketface.sdk.predictor import Predictor, load
from pocketface.sdk.recolour import HairDye, Lipstick
from pocketface.sdk.results import Landmarks, Mask, Timings
from pocketface.sdk.schemes import SCHEMES, load_scheme

__all__ = [
    "CLASS_SETS",
    "SCHEMES",
    "Box",
    "Bundle",
    "ContoursOverlay",
    "Crop",
    "Detection",
    "Detector",
    "FaceDetector",
    "HairDye",
    "Landmarks",
    "Lipstick",
    "Mask",
    "MaskOverlay",
    "MaskPredictor",
    "PocketfaceError",
    "PointsOverlay",
    "Predictor",
    "ScoreOverlay",
    "SideBySide",
    "Timings",
    "load",
    "load_classes",
    "load_detector",
    "load_mask",
    "load_scheme",
    "open_bundle",
    "read_image",
    "write_image",
]
