"""Golden cases of masks: the mask of one frame reaches the next as the runtime hands it on, or verify says so."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundle_factory import picture
from mask_factory import make_mask_bundle, mask_forward, slow_mask, softmax
from numpy.typing import NDArray

from pocketface.converters.golden import golden_problems
from pocketface.converters.golden_images import golden_frames
from pocketface.converters.reference import golden_case, golden_cases, golden_references
from pocketface.sdk.bundle import open_bundle
from pocketface.sdk.errors import BadInputError
from pocketface.sdk.geometry import Box, Crop
from pocketface.sdk.manifest import Stage
from pocketface.sdk.mask_predictor import MaskPredictor

GAIN, GRID, CLASSES = 2.0, 16, 11
FRAMES = [
    (picture(seed=3), Box(20, 8, 71, 59)),
    (picture(seed=3), Box(23, 4, 70, 51)),
    (picture(seed=4), Box(9, 9, 60, 60)),
]
Case = dict[str, NDArray[Any]]


def run(tensor: NDArray[np.float32], others: dict[str, NDArray[np.float32]] | None = None) -> Case:
    previous = None if others is None else others["previous"]
    return {"logits": mask_forward(tensor, CLASSES, GRID, previous, GAIN if others else 0.0)}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_mask_bundle(tmp_path_factory.mktemp("mask") / "bundle", classes="face11", gain=GAIN)


@pytest.fixture(scope="module")
def stage(bundle: Path) -> Stage:
    with open_bundle(bundle) as opened:
        return opened.manifest.stages[0]


@pytest.fixture(scope="module")
def cases(stage: Stage) -> list[Case]:
    return golden_cases(run, FRAMES, stage)


def test_frames_hand_on_what_the_predictor_hands_on(bundle: Path, cases: list[Case]) -> None:
    with open_bundle(bundle) as opened:
        predictor = MaskPredictor(opened)
    for (image, box), case in zip(FRAMES, cases, strict=True):
        mask = predictor(image, [box])[0]
        assert (mask.labels != case["step0.decoded.labels"]).mean() < 1e-3
        soft = slow_mask(case["step0.decoded.probabilities"], Crop.from_box(box), image.shape[1::-1])
        for number, name in enumerate(mask.classes.names):
            assert np.abs(mask.soft[name] - soft[number]).max() < 1e-4


def test_the_first_frame_begins_with_nothing_and_the_next_sees_a_mask(cases: list[Case]) -> None:
    assert not cases[0]["step0.input.previous"].any()
    for before, case in itertools.pairwise(cases):
        assert np.allclose(before["step0.decoded.probabilities"], softmax(before["step0.output.logits"][0]), atol=1e-6)
        known = case["step0.input.previous"][0].sum(axis=0)
        assert 0.3 < known.mean() < 1  # the crop moved: of some cells nothing is known
        assert case["step0.decoded.labels"].shape == case["image"].shape[:2]


def test_a_sequence_without_motion_hands_on_the_probabilities_themselves(stage: Stage) -> None:
    first, second = golden_cases(run, [FRAMES[0], FRAMES[0]], stage)
    assert np.array_equal(second["step0.input.previous"][0], first["step0.decoded.probabilities"])


def test_what_was_made_here_has_no_problems(stage: Stage, cases: list[Case]) -> None:
    assert golden_problems(cases, stage) == []
    again = [*cases, golden_case(run, *FRAMES[1], stage)]  # a cut: it begins anew
    assert golden_problems(again, stage) == []


def test_golden_cases_become_references_with_the_previous_masks(stage: Stage, cases: list[Case]) -> None:
    found = golden_references(cases, stage)
    assert np.array_equal(found.others["previous"][2:], cases[2]["step0.input.previous"])
    assert np.array_equal(found.main[1], cases[1]["step0.output.logits"][0])


def not_handed_on(cases: list[Case]) -> None:
    for case in cases:
        case["step0.input.previous"] = np.zeros_like(case["step0.input.previous"])


def logits_handed_on(cases: list[Case]) -> None:
    cases[1]["step0.input.previous"] = cases[0]["step0.output.logits"]


def not_warped(cases: list[Case]) -> None:
    cases[1]["step0.input.previous"] = cases[0]["step0.decoded.probabilities"][None]


def labels_shifted(cases: list[Case]) -> None:
    cases[1]["step0.decoded.labels"] = np.roll(cases[1]["step0.decoded.labels"], 3, axis=1)


def labels_missing(cases: list[Case]) -> None:
    del cases[1]["step0.decoded.labels"]


def logits_decoded(cases: list[Case]) -> None:
    cases[0]["step0.decoded.probabilities"] = cases[0]["step0.output.logits"][0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (not_handed_on, "no golden case is fed what another one hands on"),
        (logits_handed_on, "golden case 1: input 'previous', handed on from the case before, off by"),
        (not_warped, "golden case 1: input 'previous', handed on from the case before, off by"),
        (labels_shifted, "golden case 1: .* % of the decoded labels are off"),
        (labels_missing, "golden case 1: decoded labels .* not recorded"),
        (logits_decoded, "golden case 0: decoded class probabilities off by"),
    ],
)
def test_a_case_that_is_wrong_is_named(
    stage: Stage, cases: list[Case], change: Callable[[list[Case]], None], words: str
) -> None:
    wrong = [dict(case) for case in cases]
    change(wrong)
    (problem,) = golden_problems(wrong, stage)
    assert re.search(words, problem)


def test_one_frame_cannot_show_that_a_mask_is_handed_on(stage: Stage) -> None:
    with pytest.raises(BadInputError, match="1 frame for a network with a state"):
        golden_cases(run, FRAMES[:1], stage)


def test_frames_of_golden_cases_move_and_are_the_same_at_every_call() -> None:
    frames = golden_frames(2)
    (first, box), (second, moved) = frames
    assert (first.shape, first.dtype) == ((256, 256, 3), np.uint8)
    assert box != moved
    assert not np.array_equal(first, second)
    assert abs(box.x0 - moved.x0) < 30
    assert np.array_equal(golden_frames(2)[1][0], second)
    assert golden_frames(2, whole=True)[0][1] == Box.of_image(256, 256)
