"""The shape of a drawn face: 68 points, the surface under them, and where both land in the picture.

identity + expression --face_points--> (68, 2) face plane --Head--> surface in 3D --View--> pixels

The face plane is the face seen from the front: x to the image's right, y down, the eye line at y = 0, the face's half
    width
(point 17, counting from 1) at x = 1. z points at the viewer. One unit is about 70 mm. The same ``Head.surface``
places the texture, the mesh and the landmarks, so that landmarks are exact by construction.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

_MIRROR = np.array(
    [
        *range(16, -1, -1), *range(26, 16, -1), 27, 28, 29, 30, 35, 34, 33, 32, 31,
        45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40,
        54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65,
    ]
)  # fmt: skip

# The half on the image's right (the subject's left), by hand; the other half is its mirror image.
_HALF: dict[int, tuple[float, float]] = {
    8: (0, 1.655), 9: (0.20, 1.615), 10: (0.395, 1.51), 11: (0.585, 1.34), 12: (0.74, 1.10), 13: (0.865, 0.825),
    14: (0.94, 0.54), 15: (0.985, 0.26), 16: (1.0, -0.02),
    22: (0.17, -0.29), 23: (0.33, -0.385), 24: (0.51, -0.41), 25: (0.68, -0.365), 26: (0.82, -0.24),
    27: (0, -0.02), 28: (0, 0.17), 29: (0, 0.36), 30: (0, 0.55), 33: (0, 0.76), 34: (0.12, 0.735), 35: (0.23, 0.69),
    42: (0.235, 0.035), 43: (0.345, -0.062), 44: (0.495, -0.062), 45: (0.625, 0.015), 46: (0.50, 0.085),
    47: (0.355, 0.095),
    51: (0, 0.955), 52: (0.085, 0.935), 53: (0.25, 0.985), 54: (0.39, 1.065), 55: (0.255, 1.175), 56: (0.105, 1.228),
    57: (0, 1.238), 62: (0, 1.058), 63: (0.13, 1.052), 64: (0.335, 1.065), 65: (0.13, 1.068), 66: (0, 1.074),
}  # fmt: skip


def _mean_points() -> Array:
    points = np.zeros((68, 2))
    for index, (x, y) in _HALF.items():
        points[index] = x, y
        points[_MIRROR[index]] = -x, y
    return points


MEAN_POINTS = _mean_points()
SIDE = np.sign(MEAN_POINTS[:, 0])  # -1 on the image's left
RIGHT_BROW, LEFT_BROW = np.arange(17, 22), np.arange(22, 27)
RIGHT_EYE, LEFT_EYE = np.arange(36, 42), np.arange(42, 48)
MOUTH = np.arange(48, 68)


@dataclass(frozen=True)
class Identity:
    """What stays the same about a person's shape. All zero is the mean face; the unit is about one standard
    deviation."""

    length: float = 0.0
    jaw: float = 0.0
    chin: float = 0.0
    chin_width: float = 0.0
    eye_size: float = 0.0
    eye_open: float = 0.0
    eye_gap: float = 0.0
    eye_slant: float = 0.0
    brow_height: float = 0.0
    brow_arch: float = 0.0
    brow_tilt: float = 0.0
    nose_length: float = 0.0
    nose_width: float = 0.0
    nose_height: float = 0.0
    nose_hook: float = 0.0
    mouth_width: float = 0.0
    mouth_height: float = 0.0
    upper_lip: float = 0.0
    lower_lip: float = 0.0
    cheekbones: float = 0.0
    skull: float = 0.0
    skew: float = 0.0

    @classmethod
    def sample(cls, rng: np.random.Generator) -> Identity:
        """One person."""
        return cls(*np.clip(rng.normal(size=len(fields(cls))), -1.9, 1.9).tolist())


@dataclass(frozen=True)
class Expression:
    """What the face does.

    Args:
        smile: mouth corners, -0.5 (down) to 1.
        open: jaw and lips, 0 (closed) to 1.
        blink: 0 (eyes open) to 1 (shut but for a slit).
        brows: -0.6 (frown) to 1 (raised).
        gaze: where the irises look, x and y, each -1 to 1.
        lopsided: how much more the mouth does on one side, -1 to 1.
    """

    smile: float = 0.0
    open: float = 0.0
    blink: float = 0.0
    brows: float = 0.0
    gaze: tuple[float, float] = (0.0, 0.0)
    lopsided: float = 0.0


def face_points(who: Identity, does: Expression) -> Array:
    """The 68 points in the face plane, (68, 2)."""
    p = MEAN_POINTS.copy()
    x, y = p[:, 0], p[:, 1]  # views: everything below moves p

    jaw = slice(0, 17)
    x[jaw] *= 1 + 0.045 * who.jaw * np.exp(-(((y[jaw] - 1.05) / 0.5) ** 2))
    x[jaw] *= 1 + 0.06 * who.chin_width * np.clip((y[jaw] - 1.2) / 0.4, 0, 1)
    y[jaw] += 0.05 * who.chin * np.clip((y[jaw] - 0.8) / 0.9, 0, 1)

    for eye, side in ((RIGHT_EYE, -1.0), (LEFT_EYE, 1.0)):
        centre = p[eye].mean(0)
        local = (p[eye] - centre) * (1 + 0.06 * who.eye_size)
        local[:, 1] *= 1 + 0.11 * who.eye_open
        local[:, 1] -= 0.055 * who.eye_slant * local[:, 0] * side
        p[eye] = centre + local + (0.018 * who.eye_gap * side, 0)
    for brow, side in ((RIGHT_BROW, -1.0), (LEFT_BROW, 1.0)):
        across = (np.abs(x[brow]) - 0.5) / 0.33
        y[brow] += 0.03 * who.brow_height + 0.03 * who.brow_tilt * across - 0.022 * who.brow_arch * (1 - across**2)
        x[brow] += 0.012 * who.eye_gap * side
        lift = does.brows * (0.13 if does.brows > 0 else 0.07)
        y[brow] -= lift * (1 - (0.3 * across if does.brows > 0 else 0.7 * across))
        x[brow] += 0.05 * side * np.minimum(does.brows, 0) * (across < 0)

    y[27:36] += (y[27:36] - y[27]) * 0.055 * who.nose_length
    x[31:36] *= (1 + 0.10 * who.nose_width) * (1 + 0.08 * max(does.smile, 0))
    y[[31, 35]] -= 0.02 * who.nose_hook
    y[30] += 0.02 * who.nose_hook

    _move_mouth(p, who, does)
    _blink(p, does)
    # The jaw stays symmetric: Head's outline is one half, mirrored.
    x[17:] += 0.012 * who.skew * np.clip((y[17:] - 0.3) / 1.0, 0, 1)
    y *= 1 + 0.03 * who.length
    return p


def _move_mouth(p: Array, who: Identity, does: Expression) -> None:
    x, y, m = p[:, 0], p[:, 1], MOUTH
    lower_face = 0.045 * who.nose_length + 0.02 * who.mouth_height
    y[m] += lower_face
    y[:17] += 0.6 * lower_face * np.clip((y[:17] - 0.5) / 1.1, 0, 1)
    x[m] *= 1 + 0.075 * who.mouth_width
    line = y[[62, 66]].mean()
    up, low = np.arange(49, 54), np.arange(55, 60)
    y[up] = line + (y[up] - line) * (1 + 0.18 * who.upper_lip) * (1 - 0.22 * max(does.smile, 0))
    y[low] = line + (y[low] - line) * (1 + 0.15 * who.lower_lip) * (1 - 0.15 * max(does.smile, 0))

    # A smile pulls the corners out and up; it fades towards the middle of the lips.
    pull = (np.abs(x[m]) / np.abs(x[54])) ** 2 * (1 + 0.35 * does.lopsided * SIDE[m])
    x[m] += 0.10 * does.smile * pull * SIDE[m]
    y[m] -= (0.10 if does.smile > 0 else 0.08) * does.smile * pull
    y[m] += 0.025 * max(does.smile, 0)

    # An open mouth takes the lower lip, the chin and, towards the ears ever less, the jaw with it.
    drop = 0.42 * does.open
    shape = np.sqrt(np.clip(1 - (x / np.abs(x[54])) ** 2, 0, 1))
    lower = np.array([55, 56, 57, 58, 59])
    y[lower] += drop * (0.35 + 0.65 * shape[lower])
    inner = np.array([65, 66, 67])
    y[inner] += drop * (0.15 + 0.85 * shape[inner])
    y[[48, 54, 60, 64]] += 0.30 * drop
    top = np.array([61, 62, 63])
    y[np.append(up, top)] -= 0.05 * drop + 0.02 * max(does.smile, 0) * (does.open > 0)
    x[m] *= 1 - 0.13 * does.open
    y[:17] += 0.85 * drop * np.clip((y[:17] - 0.5) / 1.2, 0, 1) ** 1.5


def _blink(p: Array, does: Expression) -> None:
    shut = 0.86 * does.blink + 0.10 * max(does.smile, 0) * (1 - does.blink)
    for upper, lower in (((37, 38), (41, 40)), ((43, 44), (47, 46))):
        for top, bottom in zip(upper, lower, strict=True):
            gap = p[bottom, 1] - p[top, 1]
            p[top, 1] += 0.80 * shut * gap
            p[bottom, 1] -= 0.20 * shut * gap


def curve(points: ArrayLike, steps: int = 6, *, closed: bool = False) -> Array:
    """Catmull-Rom spline through points.

    Args:
        points: (n, k).
        steps: samples a segment.
        closed: whether the last point joins the first.

    Returns:
        (m, k): passes through every point; an open curve ends on the last one, a closed one does not repeat the first.
    """
    p = np.asarray(points, dtype=np.float64)
    around = np.vstack([p[-1:], p, p[:2]]) if closed else np.vstack([2 * p[:1] - p[1:2], p, 2 * p[-1:] - p[-2:-1]])
    a, b, c, d = around[:-3, None], around[1:-2, None], around[2:-1, None], around[3:, None]
    t = (np.arange(steps) / steps)[None, :, None]
    out = b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))
    out = out.reshape(-1, p.shape[1])
    return out if closed else np.vstack([out, p[-1:]])


class Head:
    """The surface of one head: angle theta around the vertical axis, and v from the crown (0) to the chin (1).

    A point is (w(v) sin theta, y(v), z(theta, v)): w is the outline seen from the front, so that the jaw's landmarks
    lie at theta = +-90 degrees; z runs from the outline's depth ``ze`` to the mid-line's ``zf`` in front and ``zb``
    behind, plus a relief of bumps (nose, lips, sockets).
    """

    REACH = 125.0  # degrees of theta on each side that the mesh and the texture cover

    def __init__(self, who: Identity, does: Expression) -> None:
        self.points = p = face_points(who, does)
        self.who, self.does = who, does
        self.stretch = 1 + 0.03 * who.length  # of heights, over the mean face
        top = -1.66 - 0.05 * who.skull
        skull = np.array([(0, top), (0.45, top + 0.10), (0.82, top + 0.43), (1.0, -0.80), (1.035, -0.38)])
        outline = np.vstack([skull, p[16:7:-1]])
        ends = outline[[1, -2]] * (-1, 1)
        path = curve(np.vstack([ends[:1], outline, ends[1:]]), 24)[24:-24]
        arc = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(path, axis=0).T))])
        self._v = arc / arc[-1]
        self._w = np.maximum(path[:, 0], 0)
        self._y = np.maximum.accumulate(path[:, 1])
        # The outline is level at both ends, where many v share a y: a slope of nothing keeps the inverse well defined.
        self._rise = self._y + 1e-9 * np.arange(len(self._y))
        chin, mouth, lip, nose = p[8, 1], p[[62, 66], 1].mean(), p[57, 1], p[33, 1]
        stations = {
            # y: outline, mid-line, back
            top: (-0.35, -0.35, -0.35), top + 0.08: (-0.34, 0.10, -0.85), top + 0.35: (-0.30, 0.60, -1.3),
            -0.85: (-0.24, 0.86, -1.55), -0.42: (-0.12, 0.95, -1.6), -0.02: (-0.02, 0.92, -1.55),
            0.4: (0.05, 0.93, -1.2), nose: (0.14, 0.98, -0.5), mouth: (0.30, 1.03, -0.05),
            lip + 0.35 * (chin - lip): (0.44, 0.97, 0.15), lip + 0.65 * (chin - lip): (0.58, 1.00, 0.35),
            chin: (0.80, 0.80, 0.80),
        }  # fmt: skip
        at, depth = np.array(list(stations)), np.array(list(stations.values()))
        kernel = np.hanning(23)[1:-1] / np.hanning(23).sum()
        pad = len(kernel) // 2
        self._depth = []
        for column in depth.T:
            line = np.interp(self._y, at, column)
            padded = np.concatenate([np.full(pad, line[0]), line, np.full(pad, line[-1])])
            self._depth.append(np.convolve(padded, kernel, mode="valid"))
        self._bumps = self._relief(who, does)

    def _relief(self, who: Identity, does: Expression) -> Array:
        p = self.points
        eye = np.abs(p[LEFT_EYE]).mean(0)
        mid = np.abs(p[LEFT_BROW]).mean(0) * (1, -1)
        tip, base, top = p[30, 1], p[33, 1], p[27, 1]
        wing = np.abs(p[[31, 35], 0]).mean()
        rise = 1 + 0.10 * who.nose_height
        lips = (p[51, 1] + p[62, 1]) / 2, (p[57, 1] + p[66, 1]) / 2
        gap = p[66, 1] - p[62, 1]
        half = p[54, 0] - p[48, 0]
        smile = max(does.smile, 0)
        middle = [  # amplitude, x, y, sigma x, sigma y
            (0.10 * rise, 0, top + 0.18, 0.085, 0.17), (0.15 * rise, 0, (top + tip) / 2 + 0.08, 0.10, 0.16),
            (0.25 * rise, 0, tip - 0.01, 0.105, 0.105), (0.12, 0, tip + 0.06, 0.15, 0.10),
            (0.04 * who.nose_hook, 0, top + 0.3, 0.08, 0.12), (-0.05, 0, base + 0.07, 0.25, 0.07),
            (0.075, 0, lips[0], 0.30 * half, 0.05), (0.085, 0, lips[1], 0.29 * half, 0.065),
            (-0.035 - 0.1 * min(gap, 0.3), 0, p[[62, 66], 1].mean(), 0.33 * half, 0.025 + 0.5 * gap),
            (-0.05, 0, p[57, 1] + 0.10, 0.22, 0.06), (0.07, 0, p[8, 1] - 0.17, 0.19, 0.12),
        ]  # fmt: skip
        both = [
            (0.13, wing * 0.86, base - 0.085, 0.075, 0.075), (-0.05, wing + 0.07, base - 0.06, 0.05, 0.09),
            (-0.13, eye[0] - 0.02, 0.0, 0.24, 0.13), (-0.06, 0.20, 0.0, 0.10, 0.12), (0.065, eye[0], 0.03, 0.15, 0.085),
            (0.06, mid[0] - 0.06, mid[1] + 0.06, 0.28, 0.075),
            (0.06 + 0.02 * who.cheekbones, 0.64, 0.42, 0.22, 0.20), (0.02 + 0.07 * smile, 0.50, 0.70, 0.17, 0.16),
            (-0.05 - 0.012 * who.cheekbones, 0.62, 0.95, 0.20, 0.22),
        ]  # fmt: skip
        rows = [*middle, *both, *((a, -cx, *rest) for a, cx, *rest in both)]
        return np.array(rows, dtype=np.float64)

    def at(self, v: Array) -> tuple[Array, Array]:
        """Half width and height of the outline at v."""
        return np.interp(v, self._v, self._w), np.interp(v, self._v, self._y)

    def depths(self, v: Array) -> tuple[Array, Array, Array]:
        """Depth of the outline, of the mid-line in front, and behind, at v."""
        ze, zf, zb = (np.interp(v, self._v, line) for line in self._depth)
        return ze, zf, zb

    def row(self, y: Array) -> Array:
        """v at a height of the face plane."""
        return np.interp(y, self._rise, self._v)

    def locate(self, xy: ArrayLike) -> tuple[Array, Array]:
        """Face-plane points (n, 2) -> theta in degrees, v."""
        xy = np.asarray(xy, dtype=np.float64).reshape(-1, 2)
        w = np.interp(xy[:, 1], self._rise, self._w)
        sine = np.minimum(np.maximum(xy[:, 0] / np.maximum(w, 1e-6), -1), 1)
        return np.degrees(np.arcsin(sine)), self.row(xy[:, 1])

    def surface(self, theta: ArrayLike, v: ArrayLike) -> Array:
        """Points (..., 3) at theta (degrees) and v, which broadcast."""
        theta, v = np.broadcast_arrays(np.radians(theta), v)
        w, y = self.at(v)
        ze, zf, zb = self.depths(v)
        x, cos = w * np.sin(theta), np.cos(theta)
        front = np.maximum(cos, 0)
        z = np.where(cos > 0, ze + (zf - ze) * front**0.85, ze + (ze - zb) * cos)
        amplitude, cx, cy, sx, sy = self._bumps.T[:, :, None]
        bumps = amplitude * np.exp(-(((x.ravel() - cx) / sx) ** 2) - ((y.ravel() - cy) / sy) ** 2)
        return np.stack([x, y, z + bumps.sum(0).reshape(x.shape) * np.sqrt(front)], -1)


PIVOT = np.array([0.0, 0.55, -0.25])
FOCUS = 9.0  # distance of the camera, in face half widths: a little perspective


@dataclass(frozen=True)
class View:
    """Head pose, and where the head lands in the picture.

    Args:
        pose: yaw, pitch, roll in degrees. Yaw > 0 turns the nose to the image's right (the subject's left), pitch > 0
            lifts the chin, roll > 0 turns clockwise on the screen.
        scale: pixels per face half width.
        centre: pixel of the pivot (the neck's top).
    """

    pose: tuple[float, float, float]
    scale: float = 1.0
    centre: tuple[float, float] = (0.0, 0.0)

    def turn(self, points: Array, share: float = 1.0) -> Array:
        """Rotate (..., 3) by a share of the pose, around the pivot; the result's origin is the pivot."""
        yaw, pitch, roll = np.radians(self.pose) * share
        cy, sy, cp, sp, cr, sr = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch), np.cos(roll), np.sin(roll)
        about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
        about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
        about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
        return (points - PIVOT) @ (about_z @ about_x @ about_y).T

    def project(self, turned: Array) -> Array:
        """Rotated points (..., 3) -> pixels (..., 2)."""
        return turned[..., :2] * (self.scale / (1 - turned[..., 2:] / FOCUS)) + np.asarray(self.centre)

    def landmarks(self, head: Head) -> Array:
        """The 68 landmarks in pixels, (68, 2).

        Jaw points march along their row of the surface to where it is seen as the face's outline, which is where people
        who annotate photographs put them (Zhu et al. 2015, landmark marching): far on the side turned away, hardly or
        not at all on the other. All other points are fixed points of the surface.
        """
        theta, v = head.locate(head.points)
        jaw = np.flatnonzero(SIDE[:17])
        side = SIDE[jaw, None]
        steps = np.linspace(90, 25, 66)
        level = View((self.pose[0], self.pose[1], 0.0))
        x = level.project(level.turn(head.surface(side * steps, v[jaw, None])))[..., 0] * side
        best = x.argmax(1)
        # Between two samples: the vertex of the parabola through the best one and its neighbours.
        near = np.clip(best, 1, len(steps) - 2)
        left, mid, right = (np.take_along_axis(x, (near + k)[:, None], 1)[:, 0] for k in (-1, 0, 1))
        bend = left - 2 * mid + right
        shift = np.clip(0.5 * (left - right) / np.where(np.abs(bend) < 1e-12, -1e-12, bend), -1, 1)
        inside = (best > 0) & (best < len(steps) - 1)
        theta[jaw] = side[:, 0] * (steps[best] + np.where(inside, shift, 0) * (steps[1] - steps[0]))
        return self.project(self.turn(head.surface(theta, v)))
