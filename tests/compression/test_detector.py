"""A detector's gates, each against values by hand, and the box that is fitted to annotated faces."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from test_detector_recipe import RECIPE

from pocketface.benchmarks.data.face import Face
from pocketface.benchmarks.detection import DetectionResult
from pocketface.compression.detector_gates import MAX_ORIGINAL_ERROR, Made, check_packed, judge, problem
from pocketface.compression.detector_measure import fit_face_box
from pocketface.compression.detector_recipe import DetectorRecipe, load_detector_recipe
from pocketface.converters.candidate import Candidate
from pocketface.converters.formats.base import Exported
from pocketface.converters.verdict import ParityResult
from pocketface.sdk.detection import Detection
from pocketface.sdk.errors import GateFailedError
from pocketface.sdk.geometry import Box
from pocketface.sdk.manifest import Tolerances
from pocketface.sdk.measured import OutputParity

TRUTH = DetectionResult(faces=100, missed=0.0, others=0.0, false_alarms=0.0, box_error=5.0)
SOUND = {"logits": MAX_ORIGINAL_ERROR, "faces": 0.0}
NAN = math.nan


def recipe() -> DetectorRecipe:
    return load_detector_recipe(
        RECIPE, ("gates.max_missed=1.0", "gates.max_box_error_increase.w8=0.25", "gates.max_mb=0.6")
    )


def candidate(max_error: float = 0.01) -> Candidate:
    bounds = Tolerances(max_tensor_error=0.1)
    parity = ParityResult(
        variant="w8.onnx",
        executor="a test",
        faces=1,
        golden_faces=1,
        outputs={"faces": OutputParity(max_error=max_error, mean_error=max_error)},
        max_pixel_error=0.0,
        mean_pixel_error=0.0,
        golden_error=None,
        nme_reference=None,
        nme=None,
        broken=0,
        input_size=128,
        tolerances=bounds,
        kinds={"faces": "anchor_faces"},
    )
    return Candidate(Exported(Path("w8.onnx"), "onnx", "w8", {}, {}), parity, tolerances=bounds)


@pytest.mark.parametrize(
    ("changes", "reasons"),
    [
        ({}, []),
        ({"missed": 1.0, "box_error": 5.25}, []),  # the bounds themselves
        ({"missed": 1.01}, ["missed 1.01 % > 1 %"]),
        ({"box_error": 5.26}, ["box error 5.26 % > 5.25 %"]),
        ({"missed": 100.0, "box_error": NAN}, ["missed 100.00 %", "box error nan %"]),
        ({"missed": NAN}, ["missed nan %"]),
        ({"false_alarms": 3.0}, []),  # reported, not judged
    ],
)
def test_a_variant_is_held_against_the_network_in_torch(changes: dict[str, float], reasons: list[str]) -> None:
    found = problem(recipe(), candidate(), dataclasses.replace(TRUTH, **changes), TRUTH)
    parts = found.split("; ") if found else []
    assert len(parts) == len(reasons)
    assert all(part.startswith(reason) for part, reason in zip(parts, reasons, strict=True))


def test_a_variant_whose_tensors_differ_says_so_and_one_that_nothing_runs_is_judged_by_its_tensors() -> None:
    assert "0.5" in problem(recipe(), candidate(0.5), TRUTH, TRUTH)
    assert problem(recipe(), candidate(NAN), TRUTH, TRUTH)
    assert problem(recipe(), candidate(), None, TRUTH) == ""


def made(problems: dict[str, str]) -> dict[str, Made]:
    return {id: Made(candidate(), TRUTH, problems.get(id, "")) for id in (*recipe().ship, "fp32.onnx")}


def test_only_what_is_shipped_is_refused() -> None:
    judge(recipe(), made({}), SOUND)
    judge(recipe(), made({"fp32.onnx": "too large a box error"}), SOUND)
    with pytest.raises(GateFailedError, match=r"w8\.tflite: missed.*w8\.coreml: a box"):
        judge(recipe(), made({"w8.tflite": "missed some", "w8.coreml": "a box"}), SOUND)


@pytest.mark.parametrize("error", [{"faces": 1.1e-5}, {"logits": NAN}, {"logits": 1.0}])
def test_another_network_than_the_original_is_refused(error: dict[str, float]) -> None:
    with pytest.raises(GateFailedError, match="differs from MediaPipe's file"):
        judge(recipe(), made({}), SOUND | error)


def test_a_large_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pface"
    path.write_bytes(bytes(600_000))
    check_packed(recipe(), path)
    path.write_bytes(bytes(600_001))
    with pytest.raises(GateFailedError, match=r"0\.600 MB.*0\.6"):
        check_packed(recipe(), path)


def faces(folder: Path, count: int) -> list[Face]:
    """Pictures of one grey each, by which a fake detector knows them, with four landmarks in a square of 80 pixels."""
    found = []
    for number in range(count):
        path = folder / f"{number}.png"
        Image.fromarray(np.full((200, 200, 3), 10 * number, np.uint8)).save(path)
        corner = np.array([50.0 + 3 * number, 60.0 - 2 * number])
        square = corner + np.array([[0, 0], [80, 0], [80, 80], [0, 80]])
        found.append(Face(name=str(number), image=path, points=square.astype(np.float32)))
    return found


def moved(face: Face, angle: float, along: tuple[float, float], side: float) -> Detection:
    """A box from whose centre the face's lies ``along`` its own axes, in sides, when the face is turned by ``angle``
    degrees, clockwise as seen, y downwards.
    """
    right = np.array([math.cos(math.radians(angle)), math.sin(math.radians(angle))])
    down = np.array([-right[1], right[0]])
    truth = np.array([(face.box.x0 + face.box.x1) / 2, (face.box.y0 + face.box.y1) / 2])
    cx, cy = truth - side * (along[0] * right + along[1] * down)
    return Detection(Box(cx - side / 2, cy - side / 2, cx + side / 2, cy + side / 2), 0.9, angle)


class _Fake:
    """Gives each picture's detection, by its grey."""

    def __init__(self, given: list[list[Detection]]) -> None:
        self.given = given

    def __call__(self, image: NDArray[np.uint8], /) -> list[Detection]:
        return self.given[int(image[0, 0, 0]) // 10]


def test_the_fitted_box_leads_back_to_the_true_one(tmp_path: Path) -> None:
    shown = faces(tmp_path, 5)
    assert shown[0].box.width == pytest.approx(100)  # 1.25 x 80
    given = [[moved(face, angle, (0.05, -0.1), 80)] for face, angle in zip(shown, (0, 20, -30, 90, -10), strict=True)]
    assert fit_face_box(_Fake(given), shown) == {"dx": 0.05, "dy": -0.1, "scale": 1.25, "turned": 20}


def test_by_hand(tmp_path: Path) -> None:
    # The face's box is x 40..140, y 50..150: its centre is (90, 100). Turned by a quarter clockwise, its chin shows to
    # the left. The detector's centre is (98, 96): the true one lies 8 px to the left, towards the chin, and 4 px below,
    # to the right as the face stands.
    (face,) = faces(tmp_path, 1)
    assert face.box == pytest.approx((40, 50, 140, 150))
    fitted = fit_face_box(_Fake([[Detection(Box(58, 56, 138, 136), 0.9, 90.0)]]), [face])
    assert fitted == {"dx": 0.05, "dy": 0.1, "scale": 1.25, "turned": 90}


def test_medians_of_the_faces_that_were_found(tmp_path: Path) -> None:
    shown = faces(tmp_path, 4)
    given = [[moved(shown[0], 1, (0, 0.1), 100)], [moved(shown[1], -3, (0, 0.2), 125)], []]
    given.append([Detection(Box(0, 0, 5, 5), 0.9), moved(shown[3], 8, (0.1, 0.0), 80)])  # the other one is nobody
    assert fit_face_box(_Fake(given), shown) == {"dx": 0, "dy": 0.1, "scale": 1.0, "turned": 3}
    with pytest.raises(GateFailedError, match="none of 4"):
        fit_face_box(_Fake([[], [], [], []]), shown)
