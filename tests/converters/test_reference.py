"""Torch's outputs, and golden cases made of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from bundle_factory import picture
from tiny_export import POINTS, SIZE, inputs, tiny_net, torch_outputs

from pocketface.converters.reference import golden_case, golden_references, references, torch_run
from pocketface.sdk.errors import BadInputError
from pocketface.sdk.geometry import Box, Crop
from pocketface.sdk.manifest import OutputSpec, Preprocess, Stage, TensorSpec
from pocketface.sdk.preprocess import network_input
from pocketface.sdk.schemes import load_scheme


def stage(**changes: object) -> Stage:
    settings: dict[str, object] = {"size": SIZE, "mean": (127.0, 120.0, 110.0), "std": (60.0, 50.0, 40.0), **changes}
    return Stage(
        name="landmarks",
        task="landmarks",
        preprocess=Preprocess(**settings),  # type: ignore[arg-type]
        inputs=(TensorSpec(name="image", shape=(1, 3, SIZE, SIZE)),),
        outputs=(
            OutputSpec(name="points", shape=(1, POINTS, 2), decode="normalised_points"),
            OutputSpec(name="score", shape=(1,), decode="face_logit"),
        ),
        scheme=load_scheme("ibug68"),
        parameters=1,
        flops=1,
        variants=(),
    )


def test_one_by_one_gives_what_a_batch_gives() -> None:
    found = references(torch_run(tiny_net()), inputs(5))
    points, score = torch_outputs(inputs(5))
    assert np.abs(found.main - points).max() < 1e-6
    assert np.abs(found.outputs["score"] - score).max() < 1e-5


def test_the_network_keeps_its_mode_and_no_inputs_are_refused() -> None:
    net = torch.nn.Sequential(torch.nn.Dropout(0.5)).train()
    torch_run(net)
    assert net.training
    with pytest.raises(BadInputError, match="at least one face"):
        references(torch_run(tiny_net()), inputs(5)[:0])


def test_a_golden_case_follows_an_image_through_every_step() -> None:
    image, box = picture(), Box(20, 8, 71, 59)
    case = golden_case(torch_run(tiny_net()), image, box, stage())
    points, score = torch_outputs(case["step0.input.image"])
    assert np.abs(case["step0.output.points"] - points).max() < 1e-6
    # Decoded by hand: u = -0.5 is the left edge, 0.5 the right one, of a box of 51 px.
    assert case["step0.decoded.points"] == pytest.approx((points[0] + 0.5) * 51 + (20, 8), abs=1e-3)
    assert float(case["step0.decoded.score"]) == pytest.approx(1 / (1 + np.exp(-score[0])), abs=1e-6)
    assert [case[name].dtype for name in ("image", "box", "step0.input.image")] == [np.uint8, np.float64, np.float32]
    again = golden_references([case, case])
    assert again.main.shape == (2, POINTS, 2)


def test_preprocessing_follows_the_stage() -> None:
    image, crop = picture(), Crop(45, 33, 50)
    rgb = network_input(image, crop, stage().preprocess)
    bgr = network_input(image[:, :, ::-1].copy(), crop, stage(channels="BGR").preprocess)
    assert np.array_equal(rgb, bgr)
    with pytest.raises(BadInputError, match="no golden cases"):
        golden_references([])


@pytest.mark.parametrize("box", [Box(20, 8, 20, 59), Box(71, 8, 20, 59), Box(500, 500, 600, 600)])
def test_a_golden_case_of_no_face_is_refused(box: Box) -> None:
    with pytest.raises(BadInputError, match=r"has no area|lies outside the image"):
        golden_case(torch_run(tiny_net()), picture(), box, stage())
