"""Hints: every stage of a student learns from the truth and from what the same stage of its teacher says (RULe paper,
eqs 8-10)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import l1_loss

from pocketface.compression.models.gtn import StageOutput
from pocketface.sdk.errors import BadInputError, ConfigError


@dataclass
class Truth:
    """What the faces of a batch are annotated with.

    Attributes:
        points: mark-up -> (B, n, 2) normalised crop coordinates; only those that the faces have.
        pose: (B, 3) yaw, pitch, roll in degrees / 90, or None.
    """

    points: Mapping[str, Tensor]
    pose: Tensor | None = None


@dataclass
class HintLoss:
    """The two sums of eq. 10, scalars.

    Attributes:
        points: eq. 8.
        pose: eq. 9.
    """

    points: Tensor
    pose: Tensor

    def total(self, pose_weight: float = 1.0) -> Tensor:
        """Eq. 10, which prints no weight: it has 1."""
        return self.points + pose_weight * self.pose


def hint_loss(
    stages: Sequence[StageOutput],
    truth: Truth,
    hints: Sequence[StageOutput] | None,
    *,
    stage_weights: Sequence[float] = (0.125, 0.25, 0.5, 1.0),
    lambda_kd: float = 0.75,
) -> HintLoss:
    """Supervision and hints for all stages (RULe paper, eqs 8-10).

    Eq. 8: sum_i lambda_i sum_k (1 - lambda_kd) |s~_ik - s*_k| + lambda_kd |s~_ik - s_ik|, over stages i and the
    mark-ups k that the batch is annotated with; eq. 9 likewise for the head pose, once: the paper prints the sum over k
    there too, though nothing in it depends on k. ``|.|`` is the mean over batch, points and coordinates, so that a
    mark-up of few points counts as much as one of many; for the pose over batch and angles.

    Args:
        stages: the student's.
        truth: annotations.
        hints: the teacher's stages for the same views, one for each of the student's; no gradient goes into them. None
            trains without a teacher: the supervised term alone, with its full weight, as lambda_kd = 0 does.
        stage_weights: lambda_i.
        lambda_kd: share of the hints, in [0, 1].

    Returns:
        The two sums; a kind of annotation that the batch has not is 0.

    Raises:
        ConfigError: lambda_kd is out of range.
        BadInputError: not one weight and one hint for each stage, a mark-up that a stage has not, or nothing annotated.
    """
    if not 0 <= lambda_kd <= 1:
        raise ConfigError(f"lambda_kd: {lambda_kd}", expected="a share in [0, 1]")
    if len(stages) != len(stage_weights) or (hints is not None and len(hints) != len(stages)):
        raise BadInputError(
            f"{len(stages)} stages, {len(stage_weights)} weights, {'no' if hints is None else len(hints)} hints",
            expected="a weight and a hint for each stage",
        )
    if not truth.points and truth.pose is None:
        raise BadInputError("the batch has no annotations", expected="points of a mark-up, or head pose")
    share = 0.0 if hints is None else lambda_kd
    points = pose = stages[0].pose.new_zeros(())
    for place, (stage, weight) in enumerate(zip(stages, stage_weights, strict=True)):
        hint = hints[place] if hints is not None and share else None
        for markup, wanted in truth.points.items():
            own = _points(stage, markup, "student")
            told = None if hint is None else _points(hint, markup, "teacher")
            points = points + weight * _both(own, wanted, told, share)
        if truth.pose is not None:
            pose = pose + weight * _both(stage.pose, truth.pose, hint.pose if hint is not None else None, share)
    return HintLoss(points, pose)


def _both(own: Tensor, truth: Tensor, told: Tensor | None, share: float) -> Tensor:
    """(1 - share) |own - truth| + share |own - told|."""
    if own.shape != truth.shape or (told is not None and told.shape != own.shape):
        shapes = [tuple(x.shape) for x in (own, truth, told) if x is not None]
        raise BadInputError(f"predictions, truth and hints of shapes {shapes}", expected="the same shape")
    supervised = l1_loss(own, truth)
    return supervised if told is None else (1 - share) * supervised + share * l1_loss(own, told.detach())


def _points(stage: StageOutput, markup: str, who: str) -> Tensor:
    if markup not in stage.points:
        raise BadInputError(f"the {who} has no mark-up {markup}", choices=stage.points)
    return stage.points[markup]
