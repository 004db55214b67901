"""Eqs 8-10: every term by hand, gradients by finite differences, none into the teacher."""

from __future__ import annotations

import pytest
import torch

from pocketface.compression.distill.hint import Truth, hint_loss
from pocketface.compression.models.gtn import StageOutput
from pocketface.sdk.errors import BadInputError, ConfigError

WEIGHTS = (0.125, 0.25, 0.5, 1.0)


def output(points: dict[str, float], pose: float) -> StageOutput:
    """One stage that says the same number everywhere."""
    return StageOutput({name: torch.full((2, int(name), 2), value) for name, value in points.items()}, pose_of(pose))


def pose_of(value: float) -> torch.Tensor:
    return torch.full((2, 3), value)


def drawn(seed: int, dtype: torch.dtype = torch.float64) -> list[StageOutput]:
    generator = torch.Generator().manual_seed(seed)
    return [
        StageOutput(
            {n: torch.randn(2, int(n), 2, generator=generator, dtype=dtype) for n in ("68", "5")},
            torch.randn(2, 3, generator=generator, dtype=dtype),
        )
        for _ in WEIGHTS
    ]


def test_every_term_by_hand():
    students = [output({"68": 0.1 * i, "5": 0.2}, 0.3) for i in (1, 2, 3, 4)]
    teachers = [output({"68": 0.1, "5": 0.0}, 0.1 * i) for i in (1, 2, 3, 4)]
    truth = Truth({"68": torch.full((2, 68, 2), 0.05), "5": torch.full((2, 5, 2), 0.25)}, pose_of(0.5))
    found = hint_loss(students, truth, teachers, stage_weights=WEIGHTS, lambda_kd=0.75)
    points = (
        0.125 * (0.25 * 0.05 + 0.75 * 0.0 + 0.25 * 0.05 + 0.75 * 0.2)
        + 0.25 * (0.25 * 0.15 + 0.75 * 0.1 + 0.25 * 0.05 + 0.75 * 0.2)
        + 0.5 * (0.25 * 0.25 + 0.75 * 0.2 + 0.25 * 0.05 + 0.75 * 0.2)
        + 1.0 * (0.25 * 0.35 + 0.75 * 0.3 + 0.25 * 0.05 + 0.75 * 0.2)
    )
    pose = (
        0.125 * (0.25 * 0.2 + 0.75 * 0.2)
        + 0.25 * (0.25 * 0.2 + 0.75 * 0.1)
        + 0.5 * (0.25 * 0.2 + 0.75 * 0.0)
        + 1.0 * (0.25 * 0.2 + 0.75 * 0.1)
    )
    assert float(found.points) == pytest.approx(points, rel=1e-5)
    assert float(found.pose) == pytest.approx(pose, rel=1e-5)
    assert float(found.total()) == pytest.approx(points + pose, rel=1e-5)
    assert float(found.total(0.1)) == pytest.approx(points + 0.1 * pose, rel=1e-5)


def test_the_distance_is_a_mean_over_batch_points_and_coordinates():
    stage = output({"5": 0.0}, 0.0)
    wanted = torch.zeros(2, 5, 2)
    wanted[1, 3, 0] = 0.8
    found = hint_loss([stage], Truth({"5": wanted}), None, stage_weights=[1.0])
    assert float(found.points) == pytest.approx(0.8 / 20)
    assert float(found.pose) == 0


def test_only_what_the_batch_is_annotated_with_counts():
    students = [output({"68": 0.1, "5": 0.1}, 0.1)]
    teachers = [output({"68": 5.0, "5": 0.1}, 5.0)]
    five = hint_loss(students, Truth({"5": torch.zeros(2, 5, 2)}), teachers, stage_weights=[1.0])
    assert float(five.points) == pytest.approx(0.25 * 0.1)
    assert float(five.pose) == 0
    pose = hint_loss(students, Truth({}, pose_of(0.0)), teachers, stage_weights=[1.0])
    assert float(pose.points) == 0
    assert float(pose.pose) == pytest.approx(0.25 * 0.1 + 0.75 * 4.9)


@pytest.mark.parametrize("lambda_kd", [0.0, 0.75])
def test_without_a_teacher_or_its_share_the_supervised_term_has_its_full_weight(lambda_kd: float):
    students, truth = [output({"5": 0.3}, 0.2)] * 4, Truth({"5": torch.zeros(2, 5, 2)}, pose_of(0.0))
    hints = None if lambda_kd else [output({"5": 9.0}, 9.0)] * 4
    found = hint_loss(students, truth, hints, stage_weights=WEIGHTS, lambda_kd=lambda_kd)
    assert float(found.points) == pytest.approx(1.875 * 0.3)
    assert float(found.pose) == pytest.approx(1.875 * 0.2)


def test_gradients_are_those_of_finite_differences_and_none_goes_into_the_teacher():
    students, teachers, truths = drawn(0), drawn(1), drawn(2)[0]
    truth = Truth(truths.points, truths.pose)
    leaves = [tensor for stage in students for tensor in (*stage.points.values(), stage.pose)]
    told = [tensor for stage in teachers for tensor in (*stage.points.values(), stage.pose)]
    for tensor in (*leaves, *told):
        tensor.requires_grad_()
    hint_loss(students, truth, teachers, lambda_kd=0.6).total(0.5).backward()
    assert all(tensor.grad is None for tensor in told)
    step = 1e-6
    for tensor in leaves:
        place = (0,) * tensor.ndim
        with torch.no_grad():
            sides = []
            for sign in (1, -1):
                tensor[place] += sign * step
                sides.append(float(hint_loss(students, truth, teachers, lambda_kd=0.6).total(0.5)))
                tensor[place] -= sign * step
        assert float(tensor.grad[place]) == pytest.approx((sides[0] - sides[1]) / (2 * step), rel=1e-4)


def test_bad_input_is_refused():
    students, truth = [output({"5": 0.1}, 0.1)] * 4, Truth({"5": torch.zeros(2, 5, 2)})
    with pytest.raises(ConfigError, match="lambda_kd"):
        hint_loss(students, truth, None, lambda_kd=1.5)
    with pytest.raises(BadInputError, match="3 hints"):
        hint_loss(students, truth, students[:3])
    with pytest.raises(BadInputError, match="no annotations"):
        hint_loss(students, Truth({}), None)
    with pytest.raises(BadInputError, match="student has no mark-up 19"):
        hint_loss(students, Truth({"19": torch.zeros(2, 19, 2)}), None)
    with pytest.raises(BadInputError, match="teacher has no mark-up 5"):
        hint_loss(students, truth, [output({"68": 0.1}, 0.1)] * 4)
    with pytest.raises(BadInputError, match="same shape"):
        hint_loss(students, Truth({"5": torch.zeros(3, 5, 2)}), None)
