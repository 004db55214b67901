"""Head pose of a face from its 68 landmarks, by fitting a 3D face that is itself learnt from 2D shapes alone.

shapes (N, 68, 2) --factorise--> a 3D face --alternate poses and shape--> HeadPose --angles--> yaw, pitch, roll

The ground truth of the pose mark-up where a data set has none (RULe, section III-C): no 3D scan, no 3D data set. The
camera is weak perspective (rotate, drop the depth, scale, shift), the face rigid and symmetric; what moves (mouth, jaw,
brows) counts less, as its residuals tell, and the jaw hardly at all on the side that is turned away. How far that is
from the truth: docs/head-pose.md.

Frame of the 3D face: x to the image's right, y down, z towards the viewer, the outer eye corners 1 apart. A face turned
by yaw, pitch and roll is Rz(roll) Rx(pitch) Ry(yaw) X, as in benchmarks/data/synthetic_shape.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pocketface.compression.shape.arrays import load_arrays, save_arrays
from pocketface.compression.shape.weak_perspective import Array, Cameras, euler, factorise, fit_cameras
from pocketface.sdk.errors import BadInputError
from pocketface.sdk.schemes.registry import load_scheme

SCHEMA = 1
SCHEME = "ibug68"
POINTS = 68
MIN_FACES = 20
"""Fewer faces leave depth to chance: it shows only in how they differ in pose."""

_OUTER_EYE_CORNERS = [36, 45]
_EYE_CORNERS = [36, 39, 42, 45]
_MOUTH_CORNERS = [48, 54]
_NOSE_TIP = 30
_JAW = slice(0, 17)
_SLIDE, _SLIDE_WIDTH = 5.0, 4.0
"""Degrees of yaw at which jaw points of the side turned away lose half their weight, and how fast. Annotators put them
on the outline they see, which slides over the cheek as the head turns (landmark marching, Zhu et al. 2015): taken as
fixed points of the head, they make it look deeper, and every turn smaller by a tenth."""
_SLIDES = 8
_ROUNDS = 200
_STILL = 3e-6
"""Largest move of a coordinate of the 3D face, in outer-eye-corner distances, at which the alternation ends."""
_TURNS = 10.0
_NO_FACE = 0.2
_FLOOR = 0.02
"""Residual added to every point's own before it is weighted: what annotators differ by. Without it, three points that
happen to fit would take all the weight (the Heywood case of factor analysis)."""


@dataclass(frozen=True, eq=False)
class HeadPose:
    """A rigid, symmetric 3D face, and how far each of its points can be trusted.

    The symmetry plane is x = 0. Pitch 0 is where the plane through eye corners and mouth corners faces the camera: it
    belongs to the face, not to how a data set's photographers stood. The origin is the mean of the points.

    Attributes:
        mean_shape: (68, 3) float64, x right, y down, z towards the viewer; outer eye corners 1 apart.
        residuals: (68,) float64, root mean square distance of the training faces' points from the fitted 3D face, in
            outer-eye-corner distances of the face seen from the front. Weights are 1 / (residual^2 + floor^2).

    Raises:
        BadInputError: if the arrays have other shapes, hold NaN, are not symmetric, or are flat.
    """

    mean_shape: Array
    residuals: Array

    def __post_init__(self) -> None:
        again = "fit the head pose again"
        for name, shape in (("mean_shape", (POINTS, 3)), ("residuals", (POINTS,))):
            array = np.array(getattr(self, name), dtype=np.float64)
            array.setflags(write=False)
            object.__setattr__(self, name, array)
            if array.shape != shape:
                raise BadInputError(f"head pose: {name} is {array.shape}", expected=str(shape), next=again)
            if not np.isfinite(array).all():
                raise BadInputError(f"head pose: {name} holds NaN or infinity", next=again)
        if (self.residuals < 0).any():
            raise BadInputError("head pose: residuals below 0", expected="distances", next=again)
        if not np.allclose(_mirrored(self.mean_shape), self.mean_shape, atol=1e-6):
            raise BadInputError("head pose: the mean shape is not its own mirror image", next=again)
        if np.linalg.matrix_rank(self.mean_shape - self.mean_shape.mean(0), tol=1e-3) < 3:
            raise BadInputError("head pose: the mean shape is flat", expected="a face with depth", next=again)

    @property
    def weights(self) -> Array:
        """(68,) how much each point counts; they add up to 1, and mirrored points have the same. The jaw's (0 to 16)
        fade besides, face by face, on the side that is turned away."""
        return _weights(self.residuals)

    @classmethod
    def fit(cls, points: ArrayLike) -> HeadPose:
        """Learn the 3D face from landmarks of many faces in many poses.

        Every shape gets its mirror image beside it, through the scheme's flip permutation. Rank-3 factorisation with
        orthonormality constraints (Tomasi and Kanade 1992; weak perspective: Poelman and Kanade 1997) starts it; then
        poses, 3D points and the points' weights are fitted in turn until the face stands still.

        Args:
            points: (N, 68, 2) in any frame with y down, N >= 20; each shape at its own scale, shift and rotation.

        Raises:
            BadInputError: on another shape, too few faces, NaN or infinity, a face whose points coincide, or faces that
                hardly turn (then nothing tells depth).
        """
        shapes = _checked(points)
        if len(shapes) < MIN_FACES:
            raise BadInputError(
                f"{len(shapes)} faces to fit a head pose on",
                expected=f"{MIN_FACES} or more, in different poses",
                next="add annotated faces to the training split",
            )
        shapes = np.concatenate([shapes, _mirrored(shapes)])
        shapes = shapes - shapes.mean(1, keepdims=True)
        shapes /= np.sqrt((shapes**2).sum((1, 2)) / POINTS)[:, None, None]
        if (start := factorise(shapes)) is None:
            raise _no_turns("no depth found")
        face, residuals = _gauged(_symmetric(start)), np.zeros(POINTS)
        fit = _poses(shapes, face, _weights(residuals))
        for _ in range(_ROUNDS):
            # In the face's own unit, so that a large face counts no more than a small one.
            rows, seen = fit.rotation[:, :2], fit.seen(shapes)
            squares = (rows.transpose(0, 2, 1) @ rows).reshape(-1, 9)
            sums = np.einsum("fn,fnj->nj", fit.weights, seen @ rows)
            moved = np.linalg.solve((fit.weights.T @ squares).reshape(-1, 3, 3), sums[..., None])[..., 0]
            moved = _gauged((moved + _mirrored(moved)) / 2)
            still = float(np.abs(moved - face).max()) < _STILL
            face = moved
            share = _slide(euler(fit.rotation)[:, 0])
            residuals = np.sqrt((fit.gaps(shapes, face) * share).sum(0) / share.sum(0))
            residuals = (residuals + residuals[_FLIP]) / 2
            if still:
                break
            # One step a round is enough: the next one starts where this ends.
            fit = _again(fit, shapes, face, _weights(residuals), steps=1)
        if (turn := float(np.percentile(np.abs(euler(fit.rotation)[:, 0]), 90))) < _TURNS:
            raise _no_turns(f"nine in ten by less than {turn:.1f} degrees")
        if np.median(residuals) > _NO_FACE:
            raise BadInputError(
                f"landmarks to fit a head pose on lie {np.median(residuals):.2f} eye distances off their mean face",
                expected=f"faces of the scheme {SCHEME} (about 0.05)",
                next="check that the points are in the scheme's order",
            )
        return cls((face + _mirrored(face)) / 2, residuals)

    def angles(self, points: ArrayLike) -> NDArray[np.float32]:
        """Head pose by weak-perspective fit of the 3D face: least squares over rotation, scale and shift.

        Args:
            points: (N, 68, 2) pixels or any frame with y down that differs from them by rotation, scale and shift.

        Returns:
            (N, 3) float32 degrees: yaw in (-180, 180], > 0 looks to the image's right; pitch in [-90, 90], > 0 looks
            up; roll in (-180, 180], > 0 is clockwise as seen. Mirroring the face negates yaw and roll.

        Raises:
            BadInputError: on another shape, NaN or infinity, or a face whose points coincide.
        """
        return euler(_poses(_checked(points), self.mean_shape, self.weights).rotation).astype(np.float32)

    def misfit(self, points: ArrayLike) -> NDArray[np.float32]:
        """Weighted root mean square distance of landmarks from the fitted 3D face, in outer-eye-corner distances.

        Around 0.05 is usual; a face of several times that is annotated wrongly, or makes a face the rigid mean cannot.

        Args:
            points: as in ``angles``.

        Returns:
            (N,) float32, 0 or more.
        """
        shapes = _checked(points)
        fit = _poses(shapes, self.mean_shape, self.weights)
        return np.sqrt((fit.gaps(shapes, self.mean_shape) * fit.weights).sum(1)).astype(np.float32)

    def save(self, path: str | Path, *, force: bool = False) -> None:
        """Write a plain ``.npz`` (no pickle), to a temporary name first. Same model, same bytes.

        Raises:
            BadInputError: if the file exists and ``force`` is not set.
            EnvironmentProblemError: if the file cannot be written; nothing is left behind then.
        """
        arrays = {"scheme": np.array(SCHEME), "mean_shape": self.mean_shape, "residuals": self.residuals}
        save_arrays(path, arrays, schema=SCHEMA, force=force)

    @classmethod
    def load(cls, path: str | Path) -> HeadPose:
        """Read what ``save`` wrote.

        Raises:
            BadInputError: if the file is missing, no readable ``.npz``, lacks an array, or is of an unknown schema.
        """
        return cls(*load_arrays(path, ("mean_shape", "residuals"), schema=SCHEMA, what="head pose", by="HeadPose.save"))


_FLIP = np.array(load_scheme(SCHEME).flip)
_SIDE = np.zeros(POINTS)
_SIDE[[*range(8), *range(17, 22), 31, 32, *range(36, 42), 48, 49, 50, 58, 59, 60, 61, 67]] = -1
_SIDE -= _SIDE[_FLIP]
"""-1 on the image's left of an upright face, 1 on its right, 0 on the mid-line."""


def _mirrored(points: Array) -> Array:
    """(..., 68, 2 or 3) as a mirror shows it: x negated, left and right points exchanged."""
    signs = np.ones(points.shape[-1])
    signs[0] = -1
    return points[..., _FLIP, :] * signs


def _weights(residuals: Array) -> Array:
    weights = 1 / (residuals**2 + _FLOOR**2)
    return weights / weights.sum()


def _no_turns(seen: str) -> BadInputError:
    return BadInputError(
        f"the faces to fit a head pose on hardly turn ({seen}), so nothing tells their depth",
        expected=f"one face in ten with a yaw of {_TURNS:g} degrees or more",
        next="fit on more faces, in different poses",
    )


def _symmetric(face: Array) -> Array:
    """A 3D face up to rotation, reflection, scale and shift -> symmetric about x = 0, y down, nose in front."""
    face = face - face.mean(0)
    # Right landmarks less their left ones point along x; eyes and mouth span the rest.
    x = ((face - face[_FLIP]) * _SIDE[:, None]).sum(0)
    x /= np.linalg.norm(x)
    y = face[_MOUTH_CORNERS].mean(0) - face[_EYE_CORNERS].mean(0)
    y -= (y @ x) * x
    y /= np.linalg.norm(y)
    face = face @ np.stack([x, y, np.cross(x, y)], 1)
    face = (face + _mirrored(face)) / 2
    # Depth reversal: parallel projection cannot tell a face from its hollow mould; its nose can.
    return face * (1, 1, np.sign(face[_NOSE_TIP, 2] - face[_EYE_CORNERS, 2].mean()))


def _gauged(face: Array) -> Array:
    """A symmetric face in the frame of ``HeadPose``: pitch 0, unit size, centred."""
    face = face - face.mean(0)
    dy, dz = (face[_MOUTH_CORNERS].mean(0) - face[_EYE_CORNERS].mean(0))[1:]
    length = np.hypot(dy, dz)
    cos, sin = dy / length, -dz / length
    face = face @ np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]]).T
    return face / np.linalg.norm(face[_OUTER_EYE_CORNERS[1]] - face[_OUTER_EYE_CORNERS[0]])


def _poses(shapes: Array, face: Array, weights: Array) -> Cameras:
    """Weak-perspective fit of a 3D face to each shape.

    The jaw's weights depend on the yaw (see ``_SLIDE``), so one fit sets them for the next; the first has no jaw.

    Args:
        shapes: (N, 68, 2). face: (68, 3). weights: (68,).
    """
    inner = np.repeat(weights[None], len(shapes), 0)
    inner[:, _JAW] = 0
    fit = fit_cameras(shapes, face, inner)
    for _ in range(_SLIDES):
        fit = _again(fit, shapes, face, weights)
    return fit


def _again(fit: Cameras, shapes: Array, face: Array, weights: Array, steps: int = 50) -> Cameras:
    """A fit with the jaw's weights of the poses so far, from where they are."""
    return fit_cameras(shapes, face, weights * _slide(euler(fit.rotation)[:, 0]), fit, steps)


def _slide(yaw: Array) -> Array:
    """(N,) degrees -> (N, 68) factors on the weights: the jaw's points fade on the side that is turned away."""
    factors = np.ones((len(yaw), POINTS))
    factors[:, _JAW] = 1 / (1 + np.exp((yaw[:, None] * _SIDE[_JAW] - _SLIDE) / _SLIDE_WIDTH))
    return factors


def _checked(points: ArrayLike) -> Array:
    array = np.asarray(points)
    if array.ndim != 3 or array.shape[1:] != (POINTS, 2) or array.dtype.kind not in "fiu" or not len(array):
        raise BadInputError(
            f"landmarks for a head pose are {array.shape} {array.dtype}",
            expected=f"(N, {POINTS}, 2) numbers, N > 0: the scheme {SCHEME}",
            next="stack the faces' landmarks, or convert them to 68 points first",
        )
    shapes = array.astype(np.float64)
    finite = np.asarray(np.isfinite(shapes).all((1, 2)))
    _refuse(~finite, "hold NaN or infinity", "finite coordinates")
    local = shapes - shapes.mean(1, keepdims=True)
    xx, yy, xy = (local[..., 0] ** 2).sum(1), (local[..., 1] ** 2).sum(1), (local[..., 0] * local[..., 1]).sum(1)
    _refuse(xx * yy - xy**2 <= 1e-9 * (xx + yy) ** 2, "lie on one line or in one place", "the points of a face")
    return shapes


def _refuse(bad: NDArray[np.bool_], what: str, expected: str) -> None:
    if bad.any():
        raise BadInputError(
            f"landmarks of {int(bad.sum())} faces {what} (first: face {int(np.flatnonzero(bad)[0])})",
            expected=expected,
            next="leave these faces out or mend their annotation",
        )
