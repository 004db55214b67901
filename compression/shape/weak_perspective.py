"""Weak-perspective cameras: rotate, drop the depth, scale, shift. A first 3D shape from 2D ones, and the fit of a known
3D shape to each of many 2D ones.

Frame: x to the image's right, y down, z towards the viewer; (N, n, 2) shapes, one (n, 3) face.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Cameras:
    """Weak-perspective cameras of N faces, p = s R_12 X + t, and the weights (N, 68) they were fitted with."""

    rotation: Array
    scale: Array
    shift: Array
    weights: Array

    def seen(self, shapes: Array) -> Array:
        """Shapes (N, 68, 2) in the 3D face's own unit, shift taken away."""
        return (shapes - self.shift[:, None]) / self.scale[:, None, None]

    def gaps(self, shapes: Array, face: Array) -> Array:
        """(N, 68) squared distances from the projected 3D face, in its unit."""
        return ((self.seen(shapes) - face @ self.rotation[:, :2].transpose(0, 2, 1)) ** 2).sum(2)


def factorise(shapes: Array) -> Array | None:
    """A 3D shape from its views: M 2x3 cameras times one 3xn shape (Tomasi and Kanade 1992).

    The factors are known up to a 3x3 matrix G; each camera's two rows r, q must be orthogonal and of one length, which
    is linear in Q = G G^T: r Q q = 0, r Q r = q Q q.

    Args:
        shapes: (M, n, 2), each with its mean at (0, 0).

    Returns:
        (n, 3) up to rotation, reflection and scale; None where the views do not tell depth (Q is not positive).
    """
    left, values, right = np.linalg.svd(shapes.transpose(0, 2, 1).reshape(-1, shapes.shape[1]), full_matrices=False)
    cameras = (left[:, :3] * values[:3]).reshape(-1, 2, 3)
    r, q = cameras[:, 0], cameras[:, 1]

    def row(a: Array, b: Array) -> Array:
        """a Q b as a linear form of Q's six entries."""
        return np.stack(
            [
                a[:, 0] * b[:, 0],
                a[:, 1] * b[:, 1],
                a[:, 2] * b[:, 2],
                a[:, 0] * b[:, 1] + a[:, 1] * b[:, 0],
                a[:, 0] * b[:, 2] + a[:, 2] * b[:, 0],
                a[:, 1] * b[:, 2] + a[:, 2] * b[:, 1],
            ],
            1,
        )

    constraints = np.concatenate([row(r, q), row(r, r) - row(q, q)])
    # Q's size is free: the mean camera has length 1.
    size = (row(r, r) + row(q, q)).mean(0) / 2
    bordered = np.zeros((7, 7))
    bordered[:6, :6] = constraints.T @ constraints
    bordered[:6, 6] = bordered[6, :6] = size
    xx, yy, zz, xy, xz, yz = np.linalg.lstsq(bordered, np.eye(7)[6], rcond=None)[0][:6]
    metric = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    lengths, axes = np.linalg.eigh(metric)
    if lengths[0] <= 1e-6 * lengths[-1]:
        return None
    shape: Array = right[:3].T @ axes / np.sqrt(lengths)
    return shape


def fit_cameras(shapes: Array, face: Array, weights: Array, start: Cameras | None = None, steps: int = 50) -> Cameras:
    """Minimise sum_i w_i |p_i - s R_12 X_i - t|^2 over rotation R, scale s and shift t of each face.

    Least squares without R's constraints gives a 2x3 matrix A; the nearest scaled rotation, or ``start``, begins
    Gauss-Newton, which needs nothing of a shape but A and the weighted spread of the 3D face.

    Args:
        shapes: (N, 68, 2). face: (68, 3). weights: (N, 68), of any sum.
    """
    weights = weights / weights.sum(1, keepdims=True)
    middle = weights @ face
    local = face - middle[:, None]
    weighted = local * weights[..., None]
    spread = weighted.transpose(0, 2, 1) @ local
    centre = (weights[:, None] @ shapes)[:, 0]
    affine = (shapes - centre[:, None]).transpose(0, 2, 1) @ weighted @ np.linalg.inv(spread)
    if start is None:
        left, values, right = np.linalg.svd(affine, full_matrices=False)
        scale, rotation = values.mean(1), _completed(left @ right)
    else:
        scale, rotation = start.scale, start.rotation
    root = np.linalg.cholesky(spread)
    for _ in range(steps):
        one, two, three = rotation[:, 0], rotation[:, 1], rotation[:, 2]
        none = np.zeros_like(one)
        gap = ((affine - scale[:, None, None] * rotation[:, :2]) @ root).reshape(-1, 6)
        # What turning by a small (a, b, c) about the three axes and growing by exp(d) does to the two rows.
        slope = np.stack([none, -three, three, none, -two, one, one, two], 1).reshape(-1, 4, 2, 3)
        slope = (scale[:, None, None, None] * slope @ root[:, None]).reshape(-1, 4, 6)
        step = np.linalg.solve(slope @ slope.transpose(0, 2, 1), slope @ gap[..., None])[..., 0]
        # A step of more than about 30 degrees is no longer the linear problem that was solved.
        step *= np.minimum(1, 0.5 / np.maximum(np.abs(step).max(1, keepdims=True), 1e-300))
        rotation = _exponential(step[:, :3]) @ rotation
        scale = scale * np.exp(step[:, 3])
        if np.abs(step).max() < 1e-9:
            break
    return Cameras(rotation, scale, centre - scale[:, None] * (rotation[:, :2] @ middle[..., None])[..., 0], weights)


def _completed(rows: Array) -> Array:
    """Two orthonormal rows (N, 2, 3) -> rotation (N, 3, 3)."""
    return np.concatenate([rows, np.cross(rows[:, 0], rows[:, 1])[:, None]], 1)


def _exponential(axis: Array) -> Array:
    """Rotation vectors (N, 3), radians -> rotations (N, 3, 3) (Rodrigues)."""
    x, y, z = axis.T
    none = np.zeros_like(x)
    cross = np.stack([none, -z, y, z, none, -x, -y, x, none], 1).reshape(-1, 3, 3)
    angle = np.linalg.norm(axis, axis=1)[:, None, None]
    return np.eye(3) + np.sinc(angle / np.pi) * cross + 0.5 * np.sinc(angle / (2 * np.pi)) ** 2 * (cross @ cross)


def euler(rotation: Array) -> Array:
    """Rz(roll) Rx(pitch) Ry(yaw), (N, 3, 3) -> (N, 3) degrees yaw, pitch, roll."""
    yaw = np.arctan2(-rotation[:, 2, 0], rotation[:, 2, 2])
    pitch = np.arcsin(np.clip(rotation[:, 2, 1], -1, 1))
    roll = np.arctan2(-rotation[:, 0, 1], rotation[:, 1, 1])
    return np.degrees(np.stack([yaw, pitch, roll], 1))
