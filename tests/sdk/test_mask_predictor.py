import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundle_factory import MEAN, STD, make_bundle, picture, zip_bundle
from mask_factory import make_mask_bundle, mask_forward, slow_mask, softmax
from numpy.typing import NDArray
from typer.testing import CliRunner

from pocketface.sdk.bundle import open_bundle
from pocketface.sdk.cli import app
from pocketface.sdk.errors import BadInputError, BundleError, EnvironmentProblemError
from pocketface.sdk.geometry import Box, Crop
from pocketface.sdk.images import read_image, write_image
from pocketface.sdk.manifest import Variant
from pocketface.sdk.mask_predictor import MaskPredictor, load_mask
from pocketface.sdk.predictor import load
from pocketface.sdk.preprocess import normalise, resample

IMAGE = picture()
SIZE = (IMAGE.shape[1], IMAGE.shape[0])
BOX, NEXT = Box(20, 8, 71, 59), Box(24, 10, 72, 58)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_mask_bundle(tmp_path_factory.mktemp("hair"), variants=("fp32.onnx", "fp16.coreml"))


@pytest.fixture(scope="module")
def remembering(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_mask_bundle(tmp_path_factory.mktemp("parsing"), classes="face11", size=32, grid=8, gain=4.0)


def by_hand(
    box: Box, classes: int, grid: int, previous: Any = None, gain: float = 0.0, image: Any = IMAGE
) -> np.ndarray:
    """(C, M, M) probabilities, in numpy."""
    tensor = normalise(resample(image, Crop.from_box(box), 32), MEAN, STD)
    return softmax(mask_forward(tensor, classes, grid, previous, gain)[0])


def close(mask: Any, probabilities: np.ndarray, box: Box) -> bool:
    wanted = slow_mask(probabilities, Crop.from_box(box), SIZE)
    return all(np.allclose(mask.soft[name], wanted[row], atol=1e-4) for row, name in enumerate(mask.classes.names))


def test_a_mask_is_what_the_network_gives_at_the_images_own_size(plain: Path) -> None:
    predictor = load_mask(plain)
    (mask,) = predictor(IMAGE, [BOX])
    probabilities = by_hand(BOX, 2, 16)
    assert close(mask, probabilities, BOX)
    wanted = slow_mask(probabilities, Crop.from_box(BOX), SIZE)
    clear = np.abs(wanted[1] - wanted[0]) > 1e-4
    assert np.array_equal(mask.labels[clear], wanted.argmax(axis=0)[clear])
    assert 0 < mask.labels.mean() < 1
    assert (mask.box, mask.classes.name) == (BOX, "hair2")
    assert not predictor.remembers


def test_without_a_box_the_whole_photo_is_looked_at(plain: Path) -> None:
    (mask,) = load_mask(plain)(IMAGE)
    whole = Box.of_image(*SIZE)
    assert mask.box == whole
    assert close(mask, by_hand(whole, 2, 16), whole)
    np.testing.assert_allclose(mask.soft["hair"] + mask.soft["background"], 1, atol=1e-6)


def test_several_boxes_give_masks_in_their_order_and_times_are_kept(plain: Path) -> None:
    predictor = load_mask(plain)
    assert predictor.timings is None
    first, second = predictor(IMAGE, [BOX, NEXT])
    assert close(first, by_hand(BOX, 2, 16), BOX)
    assert close(second, by_hand(NEXT, 2, 16), NEXT)
    assert predictor.timings is not None
    assert min(predictor.timings.pre_ms, predictor.timings.inference_ms, predictor.timings.post_ms) > 0


def test_the_next_frame_is_shown_the_mask_of_the_one_before(remembering: Path) -> None:
    predictor = load_mask(remembering)
    assert predictor.remembers
    zeros = np.zeros((1, 11, 8, 8), np.float32)
    (mask,) = predictor(IMAGE, [BOX])
    first = by_hand(BOX, 11, 8, zeros, 4.0)
    assert close(mask, first, BOX)
    (mask,) = predictor(IMAGE, [BOX])  # the same crop: the probabilities as they are
    second = by_hand(BOX, 11, 8, first[None].astype(np.float32), 4.0)
    assert close(mask, second, BOX)
    assert not np.allclose(first, second, atol=0.01)


def test_the_mask_of_the_frame_before_moves_along_with_the_crop(remembering: Path) -> None:
    predictor = load_mask(remembering)
    predictor(IMAGE, [BOX])
    (mask,) = predictor(IMAGE, [NEXT])
    first = by_hand(BOX, 11, 8, np.zeros((1, 11, 8, 8), np.float32), 4.0)
    # NEXT has a side of 48, so a cell of its 8 x 8 grid is a 6 x 6 block; its centre lies between pixels.
    moved = np.zeros((1, 11, 8, 8), np.float32)
    for i in range(8):
        for j in range(8):
            x, y = 24 + 6 * (j + 0.5), 10 + 6 * (i + 0.5)
            at = Crop(BOX.x0 + 25.5 - x, BOX.y0 + 25.5 - y, 51)  # the old crop, seen from this centre
            moved[0, :, i, j] = slow_mask(first, at, (1, 1))[:, 0, 0]
    assert close(mask, by_hand(NEXT, 11, 8, moved, 4.0), NEXT)


@pytest.mark.parametrize("how", ["cut", "reset", "size"])
def test_a_cut_begins_anew(remembering: Path, how: str) -> None:
    predictor = load_mask(remembering)
    wanted = predictor(IMAGE, [BOX])[0].soft["nose"]
    again = predictor(IMAGE, [BOX])[0].soft["nose"]
    assert not np.allclose(wanted, again, atol=0.01)
    if how == "reset":
        predictor.reset()
    if how == "size":
        predictor(IMAGE[:-1], [BOX])
    found = predictor(IMAGE, [BOX], cut=how == "cut")[0].soft["nose"]
    assert np.array_equal(found, wanted)


def test_several_faces_need_predictors_of_their_own_or_a_cut(remembering: Path) -> None:
    predictor = load_mask(remembering)
    with pytest.raises(BadInputError, match=r"2 boxes for a network .* pass cut=True"):
        predictor(IMAGE, [BOX, NEXT])
    alone = [load_mask(remembering)(IMAGE, [box])[0].soft["skin"] for box in (BOX, NEXT)]
    together = [mask.soft["skin"] for mask in predictor(IMAGE, [BOX, NEXT], cut=True)]
    assert np.array_equal(together, alone)
    assert np.array_equal(predictor(IMAGE, [BOX])[0].soft["skin"], alone[0])


def test_each_loader_names_the_other(plain: Path, tmp_path: Path) -> None:
    marks = make_bundle(tmp_path / "marks")
    with pytest.raises(BundleError, match=r"'tinymask' gives masks, expected landmarks.*pocketface\.sdk\.load_mask"):
        load(plain)
    with pytest.raises(BundleError, match=r"'tiny' gives landmarks, expected masks.*pocketface\.sdk\.load\."):
        load_mask(marks)


def test_a_zipped_bundle_a_path_and_a_bad_input(plain: Path, tmp_path: Path) -> None:
    predictor = load_mask(zip_bundle(plain, tmp_path / "a.pface"), threads=2)
    (mask,) = predictor(IMAGE, [BOX])
    assert np.array_equal(mask.labels, load_mask(plain)(IMAGE, [BOX])[0].labels)
    with pytest.raises(BadInputError, match="lies outside the image"):
        predictor(IMAGE, [(500, 500, 600, 600)])
    with pytest.raises(EnvironmentProblemError, match=r"fp16\.coreml.* is coreml"):
        load_mask(plain, variant="fp16.coreml")


def test_inputs_of_the_network_are_checked(remembering: Path) -> None:
    predictor = load_mask(remembering)
    tensor = predictor.preprocess(IMAGE, Crop.from_box(BOX))
    with pytest.raises(BadInputError, match="inputs image, expected image, previous"):
        predictor.predict_tensor(tensor)
    with pytest.raises(BadInputError, match=r"shape \(1, 11, 4, 4\)"):
        predictor.predict_tensor(tensor, {"previous": np.zeros((1, 11, 4, 4), np.float32)})
    with open_bundle(remembering) as bundle:
        (case,) = bundle.golden()
    found = predictor.predict_tensor(case["step0.input.image"], {"previous": case["step0.input.previous"]})
    np.testing.assert_allclose(found["logits"], case["step0.output.logits"], atol=1e-4)


def test_a_mask_prints_and_saves(plain: Path) -> None:
    (mask,) = load_mask(plain)(IMAGE, [BOX])
    saved = json.loads(json.dumps(mask.to_dict()))
    runs = np.repeat(saved["runs"][0::2], saved["runs"][1::2])
    assert np.array_equal(runs.reshape(saved["height"], saved["width"]), mask.labels)
    assert (saved["classes"], saved["names"], saved["box"]) == ("hair2", ["background", "hair"], list(BOX))
    share = float((mask.labels == 1).mean())
    assert saved["shares"]["hair"] == pytest.approx(share)
    assert f"mask (hair2), 90 x 70 pixels: background {100 * (1 - share):.1f} %, hair {100 * share:.1f} %" == str(mask)
    assert ("hair" in mask.soft, "hat" in mask.soft, list(mask.soft)) == (True, False, ["background", "hair"])


class NoNumbers:
    """A runtime whose network gives NaN."""

    executor = "nothing"

    def __init__(self, path: Path, variant: Variant, *, threads: int = 1, delegate: str = "auto") -> None:
        self.shape = variant.outputs["logits"].shape

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        return {"logits": np.full(self.shape, np.nan, np.float32)}


def test_a_network_that_gives_no_numbers_is_refused(plain: Path) -> None:
    with open_bundle(plain) as bundle:
        predictor = MaskPredictor(bundle, executor=NoNumbers)
    with pytest.raises(BundleError, match="NaN or infinity"):
        predictor(IMAGE, [BOX])


def test_the_command_draws_and_saves_a_mask(plain: Path, remembering: Path, tmp_path: Path) -> None:
    photo, out, report = tmp_path / "photo.png", tmp_path / "out.png", tmp_path / "out.json"
    write_image(photo, IMAGE)
    words = ["run", photo, "--bundle", plain, "--box", BOX.text(), "--out", out, "--json", report]
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    assert "mask 1: mask (hair2), 90 x 70 pixels: background " in done.stdout
    (mask,) = load_mask(plain)(IMAGE, [BOX])
    saved = json.loads(report.read_text())
    assert saved["masks"] == [mask.to_dict()]
    assert "faces" not in saved
    changed = (read_image(out) != IMAGE).any(axis=-1)
    assert changed[mask.labels == 1].mean() > 0.9
    assert not changed[mask.soft["hair"] == 0].any()
    # Faces of one photo are no frames of one face.
    two = CliRunner().invoke(
        app, ["run", str(photo), "--bundle", str(remembering), "--box", BOX.text(), "--box", NEXT.text()]
    )
    assert two.exit_code == 0, two.output
    assert "mask 2: mask (face11)" in two.stdout
    shown = CliRunner().invoke(app, ["inspect", str(remembering)])
    assert shown.exit_code == 0, shown.output
