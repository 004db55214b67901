"""What a drawn person looks like, apart from the shape: skin, hair, eyes, beard, glasses, clothes; and how a head
moves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pocketface.benchmarks.data.synthetic_shape import Array, Expression

Colour = tuple[float, float, float]

SKINS: tuple[Colour, ...] = (
    (248, 214, 200), (240, 198, 178), (228, 180, 154), (212, 158, 126),
    (188, 134, 102), (156, 106, 78), (122, 82, 60), (94, 63, 48),
)  # fmt: skip
HAIRS: tuple[Colour, ...] = (
    (28, 24, 24), (46, 34, 28), (74, 50, 34), (104, 70, 44), (142, 102, 62), (196, 158, 100), (222, 192, 142),
    (132, 62, 32), (164, 82, 44), (128, 124, 122), (206, 204, 202),
)  # fmt: skip
DYES: tuple[Colour, ...] = ((196, 82, 130), (72, 96, 170), (60, 130, 120), (136, 66, 160))
IRISES: tuple[Colour, ...] = (
    (70, 44, 26), (92, 60, 34), (122, 86, 48), (98, 110, 66), (88, 120, 110), (92, 132, 168), (120, 136, 150)
)  # fmt: skip

# How low hair reaches (y in the face plane) at these angles around the head, in degrees; -9 is none at all.
_ANGLES = (0, 22, 40, 54, 64, 72, 78, 86, 96, 108, 125)
_LOW: dict[str, tuple[float, ...]] = {
    "short": (-1.10, -1.08, -1.00, -0.78, -0.52, -0.40, -0.05, -0.22, -0.25, 0.35, 0.62),
    "crop": (-1.16, -1.15, -1.06, -0.80, -0.55, -0.42, -0.20, -0.30, -0.30, 0.20, 0.50),
    "receding": (-1.22, -1.36, -1.30, -0.90, -0.55, -0.42, -0.10, -0.25, -0.25, 0.35, 0.60),
    "crown": (-9.0, -9.0, -9.0, -9.0, -0.62, -0.50, -0.15, -0.28, -0.28, 0.35, 0.60),
    "fringe": (-0.62, -0.60, -0.58, -0.54, -0.45, -0.30, 0.05, 0.15, 0.20, 0.50, 0.70),
    "bob": (-1.06, -1.04, -0.92, -0.52, 0.20, 1.00, 1.15, 1.20, 1.22, 1.25, 1.25),
    "bob-fringe": (-0.60, -0.58, -0.55, -0.44, 0.25, 1.00, 1.15, 1.20, 1.22, 1.25, 1.25),
    "long": (-1.08, -1.05, -0.92, -0.52, 0.25, 1.90, 2.70, 2.75, 2.80, 2.80, 2.80),
    "long-fringe": (-0.62, -0.60, -0.56, -0.44, 0.30, 1.90, 2.70, 2.75, 2.80, 2.80, 2.80),
    "tied": (-1.10, -1.07, -0.96, -0.72, -0.48, -0.35, -0.10, -0.20, -0.18, 0.35, 0.55),
    "round": (-1.02, -1.00, -0.92, -0.74, -0.56, -0.40, -0.20, 0.00, 0.25, 0.60, 0.75),
    "swept": (-1.00, -0.98, -0.90, -0.68, -0.48, -0.38, -0.02, -0.12, -0.10, 0.40, 0.65),
}


@dataclass(frozen=True)
class Hair:
    """One head of hair.

    Args:
        style: a key of the table of hairlines.
        colour: mean colour.
        top, side: thickness over the crown and beside the temples, in face half widths.
        curl: 0 (strands) to 1 (curls).
        part: angle of the parting in degrees, or None.
        sweep: slant of the hairline across the forehead, -1 to 1.
        ragged: depth of the hairline's tips.
        bottom: where the shell of hair ends.
    """

    style: str
    colour: Colour
    top: float
    side: float
    curl: float
    part: float | None
    sweep: float
    ragged: float

    @property
    def bottom(self) -> float:
        return min(max(_LOW[self.style]) + 0.15, 2.9)

    @property
    def covers_ears(self) -> bool:
        return bool(np.interp(84, _ANGLES, _LOW[self.style]) > 0.4)

    def low(self, theta: Array, length: float) -> Array:
        """Lower edge of the hair (y) at angles in degrees, for a face stretched by ``length`` (1 is the mean)."""
        low = np.interp(np.abs(theta), _ANGLES, _LOW[self.style])
        swept = 0.30 * self.sweep * np.sin(np.radians(np.clip(theta * 1.6, -90, 90)))
        return (low + np.where((np.abs(theta) < 62) & (low > -2), swept, 0)) * length

    def roots(self, theta: Array, length: float) -> Array:
        """How low hair grows from the skin: as ``low``, but long hair hangs free beside the face and from the nape."""
        free = np.maximum(np.abs(theta) - 56, 0)
        return np.minimum(self.low(theta, length), np.where(free > 0, -0.55 + 0.025 * free, 9.0))


@dataclass(frozen=True)
class Look:
    """Colours and accessories of one person.

    ``beard`` is none, stubble, moustache, goatee or full; ``glasses`` are None, round, square or wide; ``collar`` is
    round, v, high or shirt.
    """

    skin: Colour
    lips: Colour
    iris: Colour
    brow_colour: Colour
    brow_thickness: float
    brow_density: float
    hair: Hair | None
    beard: str
    beard_colour: Colour
    beard_density: float
    glasses: str | None
    frame: Colour
    blush: float
    freckles: float
    age: float
    gloss: float
    liner: float
    clothes: Colour
    collar: str


def _mix(a: Colour, b: Colour, t: float) -> Colour:
    return (a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t, a[2] + (b[2] - a[2]) * t)


def _scaled(a: Colour, by: float) -> Colour:
    return (a[0] * by, a[1] * by, a[2] * by)


def sample_look(rng: np.random.Generator) -> Look:
    """One person's look."""
    tone, masculine, age = rng.uniform(0, len(SKINS) - 1.001), rng.uniform() < 0.5, rng.uniform() ** 1.5
    skin = _mix(SKINS[int(tone)], SKINS[int(tone) + 1], tone % 1)
    warm = rng.normal(0, 3.5)
    skin = (skin[0] + warm, skin[1], skin[2] - warm)
    dark_skin = tone > 3.8
    h = int(rng.integers(0, 4 if dark_skin else 9))
    if age > 0.7 and rng.uniform() < 0.7:
        h = int(rng.integers(9, 11))
    colour = _scaled(HAIRS[h], rng.uniform(0.85, 1.15))
    dyed, dye = rng.uniform() < 0.04, DYES[int(rng.integers(0, len(DYES)))]
    for_men = ["short", "crop", "receding", "crown", "swept", "round", "fringe", "long", "bald"]
    for_women = ["long", "long-fringe", "bob", "bob-fringe", "tied", "swept", "round", "short", "bald"]
    odds_men, odds_women = [20, 18, 10, 6, 14, 10, 6, 6, 10], [26, 14, 14, 10, 14, 6, 10, 4, 2]
    odds = np.array(odds_men if masculine else odds_women) / 100
    style = (for_men if masculine else for_women)[int(rng.choice(len(odds), p=odds))]
    curl = float(np.clip(rng.normal(0.75 if dark_skin else 0.2, 0.25), 0, 1))
    thick = {"crop": 0.03, "receding": 0.06, "crown": 0.06, "tied": 0.06, "round": 0.34, "long": 0.14, "bob": 0.16}
    top = thick.get(style.removesuffix("-fringe"), 0.13) * rng.uniform(0.8, 1.3)
    side = {"short": 0.05, "swept": 0.05, "crop": 0.02, "round": 0.20}.get(style, min(top, 0.12)) * rng.uniform(
        0.8, 1.2
    )
    part = float(rng.uniform(-35, 35)) if style in ("long", "bob", "tied", "swept") and rng.uniform() < 0.8 else None
    sweep, ragged = float(rng.uniform(-1, 1)), float(rng.uniform(0.02, 0.07))
    if style not in ("swept", "fringe", "long-fringe", "bob-fringe"):
        sweep *= 0.12
    elif style != "swept":
        sweep *= 0.4
    hair = Hair(style, dye if dyed else colour, top, side, curl if style != "round" else 1.0, part, sweep, ragged)
    natural = _mix(_scaled(colour, 0.75), _scaled(skin, 0.45), 0.35)
    beard = ("none", "stubble", "moustache", "goatee", "full")[int(rng.choice(5, p=[0.42, 0.22, 0.08, 0.1, 0.18]))]
    frames: tuple[str | None, ...] = (None, "round", "square", "wide")
    glasses = frames[int(rng.choice(4, p=[0.76, 0.08, 0.09, 0.07]))]
    red = _mix(_mix(skin, (178, 68, 72), rng.uniform(0.35, 0.55)), (120, 40, 50), 0.3 if dark_skin else 0.0)
    stick = _mix(red, (170, 24, 48), rng.uniform(0.2, 0.8))
    made_up = not masculine and rng.uniform() < 0.4
    frame = ((26, 24, 26), (70, 44, 26), (150, 130, 90), (120, 30, 40), (180, 180, 186))[int(rng.integers(0, 5))]
    clothes = rng.uniform(20, 235, 3) * rng.uniform(0.5, 1.0)
    return Look(
        skin=skin,
        lips=stick if made_up else red,
        iris=IRISES[int(rng.integers(0, 2 if dark_skin else len(IRISES)))],
        brow_colour=natural,
        brow_thickness=float(rng.uniform(0.07, 0.13) if masculine else rng.uniform(0.05, 0.095)),
        brow_density=float(rng.uniform(0.6, 0.95)),
        hair=None if style == "bald" else hair,
        beard=beard if masculine else "none",
        beard_colour=_mix(natural, colour, 0.5),
        beard_density=float(rng.uniform(0.6, 0.95)),
        glasses=glasses,
        frame=frame,
        blush=float(rng.uniform(0, 1)),
        freckles=float(max(rng.normal(-0.6, 0.7), 0)) if tone < 3 else 0.0,
        age=float(age),
        gloss=float(rng.uniform(10, 42)),
        liner=float(rng.uniform(0.5, 1) if made_up else rng.uniform(0, 0.35)),
        clothes=(float(clothes[0]), float(clothes[1]), float(clothes[2])),
        collar=("round", "v", "high", "shirt")[int(rng.integers(0, 4))],
    )


@dataclass(frozen=True)
class Moment:
    """Everything that changes from frame to frame: pose in degrees, expression, shift in shares of the picture,
    zoom."""

    pose: tuple[float, float, float]
    does: Expression
    shift: tuple[float, float] = (0.0, 0.0)
    zoom: float = 1.0


def sample_moment(rng: np.random.Generator) -> Moment:
    """A single picture's pose and expression."""
    yaw, pitch, roll = rng.normal(0, (18, 8.5, 9))
    wide = rng.uniform(-40, 40)
    if rng.uniform() < 0.3:
        yaw = wide
    mouth, smile, shut, brows = rng.uniform(size=4), rng.normal(0.3, 0.4), rng.uniform(size=2), rng.normal(0, 0.35)
    does = Expression(
        smile=float(np.clip(smile, -0.5, 1)),
        open=float(mouth[1] ** 1.3 if mouth[0] < 0.42 else 0.0),
        blink=float(0.3 + 0.7 * shut[1] if shut[0] < 0.12 else 0.18 * shut[1]),
        brows=float(np.clip(brows, -0.6, 1)),
        gaze=tuple(np.clip(rng.normal(0, 0.4, 2), -0.9, 0.9).tolist()),
        lopsided=float(np.clip(rng.normal(0, 0.4), -1, 1)),
    )
    pose = (float(np.clip(yaw, -40, 40)), float(np.clip(pitch, -20, 20)), float(np.clip(roll, -25, 25)))
    return Moment(pose, does)


def sample_motion(rng: np.random.Generator, frames: int) -> list[Moment]:
    """A clip at about 30 frames a second: sums of slow waves for the head, faster ones for the mouth, a blink now and
    then.

    Frame k does not depend on how many frames are asked for.
    """
    t = np.arange(frames, dtype=np.float64)

    def wave(low: float, high: float, size: float) -> Array:
        period, phase = rng.uniform(low, high, 2), rng.uniform(0, 2 * np.pi, 2)
        return size * (
            0.7 * np.sin(2 * np.pi * t / period[0] + phase[0]) + 0.3 * np.sin(4 * np.pi * t / period[1] + phase[1])
        )

    yaw = rng.uniform(-16, 16) + wave(90, 180, rng.uniform(6, 22))
    pitch = rng.uniform(-7, 7) + wave(80, 160, rng.uniform(2, 9))
    roll = rng.uniform(-9, 9) + wave(90, 180, rng.uniform(2, 11))
    shift = np.stack([wave(100, 200, 0.025), wave(100, 200, 0.02)], 1)
    zoom = 1 + wave(120, 240, 0.04)
    talks = 0.5 + 0.5 * np.sin(2 * np.pi * t / rng.uniform(150, 260) + rng.uniform(0, 2 * np.pi))
    mouth = np.clip(0.04 + talks * (0.16 + wave(14, 22, 0.22)), 0, 1)
    smile = np.clip(rng.uniform(0, 0.45) + wave(90, 200, 0.4), -0.4, 1)
    brows = np.clip(wave(60, 140, 0.4), -0.5, 0.9)
    gaze = np.stack([wave(60, 120, 0.5), wave(70, 140, 0.25)], 1)
    every, first = rng.uniform(55, 110), rng.uniform(6, 40)
    since = (t - first + every / 2) % every - every / 2
    blink = np.exp(-((since / 3.2) ** 2))
    return [
        Moment(
            (float(np.clip(yaw[k], -40, 40)), float(np.clip(pitch[k], -20, 20)), float(np.clip(roll[k], -25, 25))),
            Expression(
                float(smile[k]), float(mouth[k]), float(blink[k]), float(brows[k]), (gaze[k, 0], gaze[k, 1]), 0.0
            ),
            (float(shift[k, 0]), float(shift[k, 1])),
            float(zoom[k]),
        )
        for k in range(frames)
    ]
