"""How much a chain's landmarks may move, and faces that no chain can be judged on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundle_factory import edit_manifest, picture
from chain_factory import Nets, make_chain
from PIL import Image

from pocketface.benchmarks.data.face import Face
from pocketface.converters.verify import verify_bundle
from pocketface.converters.verify_chain import SLACK
from pocketface.converters.verify_report import ChainCheck
from pocketface.sdk.bundle import open_bundle
from pocketface.sdk.errors import BadInputError
from pocketface.sdk.predictor import Predictor

STAGES = {"relocalize": 0, "uniformize": 1, "landmarks": 2}


@pytest.fixture
def image(tmp_path: Path) -> Path:
    Image.fromarray(picture()).save(tmp_path / "face.png")
    return tmp_path / "face.png"


def checked(folder: Path, image: Path, tolerances: dict[str, dict[str, Any]]) -> dict[str, ChainCheck]:
    """Chain -> what is said of it, with these bounds of the w8a8 stages; the truth is what the fp32 chain says."""

    def change(raw: dict[str, Any]) -> None:
        for name, bounds in tolerances.items():
            raw["stages"][STAGES[name]]["variants"][1]["tolerances"] = bounds

    edit_manifest(
        folder, lambda raw: raw.update(allow_unverified=[v["id"] for s in raw["stages"] for v in s["variants"]])
    )
    edit_manifest(folder, change)
    with open_bundle(folder) as bundle:
        start = np.array([(30, 20), (60, 20), (45, 40), (45, 50)], np.float32)
        found = Predictor(bundle)(image, [Face("a", image, start).box])[0].points
        report = verify_bundle(bundle, faces=[Face("a", image, found)])
    return {chain.id: chain for chain in report.chains}


@pytest.mark.parametrize(
    ("tolerances", "bound"),
    [
        ({"relocalize": {"max_nme_increase": 50}}, SLACK),
        ({"uniformize": {"max_nme_increase": 50}}, SLACK),
        ({"landmarks": {"max_tensor_error": 0.1}}, SLACK),
        ({"landmarks": {"max_nme_increase": 0.6}}, SLACK + 0.6),
        ({name: {"max_nme_increase": 0.6} for name in STAGES}, SLACK + 0.6),
    ],
)
def test_only_the_landmark_networks_own_bound_widens_a_chains(
    tmp_path: Path, image: Path, tolerances: dict[str, dict[str, Any]], bound: float
) -> None:
    moved = Nets(correction=(0.05, 0.0, 1.0, 1.0))
    found = checked(make_chain(tmp_path / "b", nets={"fp32": Nets(), "w8a8": moved}), image, tolerances)
    assert found["w8a8.onnx"].bound == pytest.approx(bound)
    assert found["w8a8.onnx"].status == "failed"
    assert found["w8a8.onnx"].nme is not None
    assert found["w8a8.onnx"].nme > 1


@pytest.mark.parametrize("runs", [True, False])
def test_faces_of_another_mark_up_are_refused_by_name(
    tmp_path: Path, image: Path, runs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where nothing can run, and no chain was ever shown them."""
    if not runs:
        monkeypatch.setattr("pocketface.converters.verify.executor_of", lambda format: None)
    points = np.array([(30, 20), (60, 20), (45, 40), (45, 50)], np.float32)
    faces = [Face("good", image, points), Face("set/bad", image, np.concatenate([points, points]))]
    with open_bundle(make_chain(tmp_path / "b")) as bundle:
        for given in (faces, faces[1:]):
            with pytest.raises(BadInputError, match=r"set/bad has 8 landmarks, expected 4 \(kite4\)"):
                verify_bundle(bundle, faces=given)


def test_an_image_that_cannot_be_read_is_not_the_chains_fault(tmp_path: Path) -> None:
    points = np.array([(30, 20), (60, 20), (45, 40), (45, 50)], np.float32)
    folder = make_chain(tmp_path / "b")
    # No landmark network reproduces its golden outputs, so none has read the image before.
    edit_manifest(folder, lambda raw: raw["stages"][2]["variants"][0]["tolerances"].update(max_tensor_error=-1))
    with open_bundle(folder) as bundle, pytest.raises(BadInputError, match="gone"):
        verify_bundle(bundle, faces=[Face("a", tmp_path / "gone.png", points)])
