"""How far the rigid weak-perspective head pose is from the truth, on drawn heads whose pose is known.

``python -m pocketface.compression.shape.pose_check`` prints the tables of docs/head-pose.md; ``--data`` adds how
the faces of 300-W are turned. The drawn heads have persons' shapes, expressions, jaws that slide along the cheek, and
perspective; nothing of it comes from the fit.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pocketface.benchmarks.data.registry import DATASETS
from pocketface.benchmarks.data.synthetic_look import sample_moment
from pocketface.benchmarks.data.synthetic_shape import PIVOT, Expression, Head, Identity, View
from pocketface.benchmarks.head_pose import ANGLES, angle_errors
from pocketface.compression.shape.pose import SCHEME, HeadPose
from pocketface.compression.shape.weak_perspective import Array, euler
from pocketface.sdk.schemes.registry import load_scheme

UNIT_MM = 70.0
"""Of the drawn heads, half a face width."""
_MIDDLE = np.array([0.0, 0.45, 0.8])

Change = Callable[[Expression], Expression]
NEUTRAL: Change = lambda does: Expression()  # noqa: E731
EXPRESSIONS: dict[str, Change] = {
    "as drawn": lambda does: does,
    "mouth half open": lambda does: Expression(open=0.5),
    "mouth wide open": lambda does: Expression(open=1.0),
    "smile": lambda does: Expression(smile=1.0),
    "laugh": lambda does: Expression(smile=1.0, open=0.6),
    "corners down": lambda does: Expression(smile=-0.5),
    "lopsided smile": lambda does: Expression(smile=0.7, lopsided=1.0),
    "brows up": lambda does: Expression(brows=1.0),
    "eyes shut": lambda does: Expression(blink=1.0),
}


@dataclass(frozen=True)
class Camera(View):
    """A view whose camera looks straight at the face from ``distance`` units, so that the pose is that towards the
    camera: of a face off the axis, a crop shows another (its direction's angle is added)."""

    distance: float = float("inf")

    def project(self, turned: Array) -> Array:
        local = turned - self.turn(_MIDDLE)
        return local[..., :2] / (1 - local[..., 2:] / self.distance)


def draw(
    count: int,
    seed: int,
    change: Change = EXPRESSIONS["as drawn"],
    *,
    distance_m: float = float("inf"),
    persons: bool = True,
) -> tuple[Array, Array]:
    """Landmarks (count, 68, 2) and the true rotations (count, 3, 3) of drawn heads, from a seed.

    Args:
        change: of the expression; the person and the pose of a seed stay the same.
        distance_m: of the camera, metres; infinite is orthographic.
        persons: whether persons differ, or all are the mean one.
    """
    points, rotations = [], []
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        who = Identity.sample(rng)
        moment = sample_moment(rng)
        camera = Camera(moment.pose, distance=distance_m * 1000 / UNIT_MM)
        points.append(camera.landmarks(Head(who if persons else Identity(), change(moment.does))))
        rotations.append(camera.turn(np.eye(3) + PIVOT).T)
    return np.stack(points), np.stack(rotations)


def tilt_between(angles: Array, rotations: Array) -> float:
    """Degrees of pitch between two ideas of pitch 0: the drawn head's own and the fit's. The one free gauge."""
    between = np.einsum("fji,fjk->ik", rotations, _rotations(angles))
    return float(np.degrees(np.arctan2(between[2, 1] - between[1, 2], between[1, 1] + between[2, 2])))


def _rotations(angles: Array) -> Array:
    return np.stack([View(tuple(angle)).turn(np.eye(3) + PIVOT).T for angle in np.asarray(angles, np.float64).tolist()])


def truth_angles(rotations: Array, tilt: float) -> Array:
    """The true angles (N, 3), with pitch counted from the fit's zero."""
    return euler(rotations @ View((0.0, tilt, 0.0)).turn(np.eye(3) + PIVOT).T)


def _row(name: str, values: Array) -> str:
    return f"| {name} | " + " | ".join(f"{value:.2f}" for value in values) + " |"


def truth_table(train: int, test: int) -> list[str]:
    """Error against the truth, by what the heads have besides a pose."""
    lines = ["| heads | yaw | pitch | roll | MAE | gain yaw | gain pitch |", "|---|---|---|---|---|---|---|"]
    drawn = EXPRESSIONS["as drawn"]
    rows: list[tuple[str, Change, float, bool]] = [
        ("one person, no expression", NEUTRAL, float("inf"), False),
        ("one person, expressions", drawn, float("inf"), False),
        ("persons, no expression", NEUTRAL, float("inf"), True),
        ("persons, expressions", drawn, float("inf"), True),
        ("the same, camera at 2 m", drawn, 2.0, True),
        ("the same, camera at 1 m", drawn, 1.0, True),
        ("the same, camera at 0.6 m", drawn, 0.6, True),
    ]
    for name, change, distance, persons in rows:
        pose = HeadPose.fit(draw(train, 1, change, distance_m=distance, persons=persons)[0])
        points, rotations = draw(test, 2, change, distance_m=distance, persons=persons)
        got = pose.angles(points).astype(np.float64)
        want = truth_angles(rotations, tilt_between(got, rotations))
        errors = angle_errors(got, want).mean(0)
        gain = [np.polyfit(want[:, k], got[:, k], 1)[0] for k in range(2)]
        lines.append(_row(name, np.array([*errors, errors.mean(), *gain])))
    return lines


def expression_table(train: int, test: int) -> list[str]:
    """What an expression alone changes: the same persons in the same poses, with it and without."""
    lines = ["| expression | yaw | pitch | roll | mean pitch |", "|---|---|---|---|---|"]
    pose = HeadPose.fit(draw(train, 1)[0])
    calm = pose.angles(draw(test, 2, NEUTRAL)[0]).astype(np.float64)
    for name, change in EXPRESSIONS.items():
        moved = pose.angles(draw(test, 2, change)[0]).astype(np.float64)
        shift = (moved - calm)[:, 1].mean()
        lines.append(_row(name, np.array([*angle_errors(moved, calm).mean(0), shift])))
    return lines


def pose_table(root: Path, train: str = "helen/trainset", tests: Sequence[str] = ("helen/testset", "afw")) -> list[str]:
    """Percentiles of the angles of 300-W's faces, under the 3D face of one of its folders."""
    scheme, reader = load_scheme(SCHEME), DATASETS["300w"]

    def points(folder: str) -> Array:
        return np.stack([face.points for face in reader(root, folders=(folder,), scheme=scheme)]).astype(np.float64)

    pose, shares = HeadPose.fit(points(train)), (1, 5, 25, 50, 75, 95, 99)
    lines = ["| faces | angle | " + " | ".join(f"{share} %" for share in shares) + " |", "|---|---" + "|---" * 7 + "|"]
    for folder in tests:
        angles = pose.angles(points(folder))
        for name, values in zip(ANGLES, np.percentile(angles, shares, axis=0).T, strict=True):
            lines.append(_row(f"{folder} ({len(angles)}) | {name}", values))
    return lines


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train", type=int, default=1500, help="drawn heads that the 3D face is learnt from")
    parser.add_argument("--test", type=int, default=600, help="drawn heads, others, that are measured")
    parser.add_argument("--data", type=Path, help="folder of 300-W: how its faces are turned")
    args = parser.parse_args()
    tables = [truth_table(args.train, args.test), expression_table(args.train, args.test)]
    if args.data:
        tables.append(pose_table(args.data))
    print("\n\n".join("\n".join(table) for table in tables))


if __name__ == "__main__":
    main()
