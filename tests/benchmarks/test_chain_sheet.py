"""The contact sheet of a chain: each cell shows what the runtime's own stages see and give."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from bundle_factory import make_bundle, picture
from chain_factory import Nets, make_chain
from PIL import Image

from pocketface.benchmarks.chain_sheet import IOD_SHARE, chain_sheet, main
from pocketface.benchmarks.data.degrade import degradation, degrade
from pocketface.benchmarks.reports.sheet import HEADER
from pocketface.sdk import load
from pocketface.sdk.errors import BundleError
from pocketface.sdk.geometry import Box, Crop
from pocketface.sdk.preprocess import resample

BOX, SIZE = Box(20, 8, 71, 59), 128


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_chain(tmp_path_factory.mktemp("chain") / "bundle", nets={"fp32": Nets(correction=(0.1, 0.0, 0.8, 0.8))})


def test_every_stage_is_shown(folder: Path):
    predictor, image = load(folder), picture()
    png = chain_sheet(predictor, image, BOX, presets=("box", "all"), size=SIZE)
    sheet = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), np.float32)
    assert sheet.shape == (HEADER + 2 * SIZE, 5 * SIZE, 3)

    bad = degrade(image, BOX, degradation("box"), iod=IOD_SHARE * BOX.width, name="sheet", seed=0)
    (face,) = predictor(bad.image, [bad.box])
    assert face.crop_box is not None

    def cell(column: int) -> np.ndarray:
        return sheet[HEADER : HEADER + SIZE, column * SIZE : (column + 1) * SIZE]

    # The palette of 256 colours is what is left between them.
    for column, crop in ((0, Crop.from_box(bad.box)), (2, Crop.from_box(face.crop_box))):
        assert np.abs(cell(column) - resample(bad.image, crop, SIZE)).mean() < 6
    assert np.abs(cell(0) - cell(2)).mean() > 6
    frame = Crop.from_box(BOX)
    plain = resample(image, Crop(frame.cx, frame.cy, 1.5 * frame.side), SIZE)
    off = np.abs(cell(4) - plain).max(-1)
    assert off.max() > 60, "dots are drawn"
    assert np.median(off) < 12, "on the photo as it was"


def test_a_single_network_is_refused(tmp_path: Path):
    with pytest.raises(BundleError, match="is one network"):
        chain_sheet(load(make_bundle(tmp_path / "one")), picture(), BOX)


def test_the_command_writes_a_png_or_says_why_not(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    Image.fromarray(picture()).save(tmp_path / "photo.png")
    given = [str(folder), str(tmp_path / "photo.png"), str(tmp_path / "sheet.png"), "--box", "20,8,71,59"]
    assert main(given) == 0
    assert Image.open(tmp_path / "sheet.png").size == (5 * 160, HEADER + 4 * 160)
    assert main([str(tmp_path / "none"), *given[1:]]) != 0
    assert "pocketface: " in capsys.readouterr().err
