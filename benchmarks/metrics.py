"""Figures of merit, from predicted and true landmarks. Plain numpy; every other package measures with these.

Error of a face: mean landmark distance / distance of the outer eye corners (points 37 and 46, counting from 1). From
those errors: NME (their mean), median, FR@0.1 (share above 0.1), CED (share at or below x) and AUC@0.1 (area under the
CED up to 0.1, over 0.1). For face scores: AUROC and the expected calibration error.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pocketface.sdk.errors import BadInputError

THRESHOLD = 0.1
OUTER_EYE_CORNERS = (36, 45)


@dataclass(frozen=True)
class Accuracy:
    """Landmark accuracy over a set of faces.

    Attributes:
        faces: how many.
        nme: mean of the faces' errors, percent.
        median: median of the faces' errors, percent.
        fr: share of faces with an error above the threshold, percent.
        landmark_fr: share of landmarks with an error above the threshold, percent.
        auc: area under the CED from 0 to the threshold, over the threshold, in [0, 1].
        threshold: in units of the normaliser; 0.1 unless said otherwise.
    """

    faces: int
    nme: float
    median: float
    fr: float
    landmark_fr: float
    auc: float
    threshold: float = THRESHOLD

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)

    def __str__(self) -> str:
        at = f"@{self.threshold:g}"
        return (
            f"NME {self.nme:.3f} %  median {self.median:.3f} %  FR{at} {self.fr:.2f} % "
            f"(landmarks {self.landmark_fr:.2f} %)  AUC{at} {self.auc:.4f}  ({self.faces} faces)"
        )


def landmark_errors(
    pred: ArrayLike, truth: ArrayLike, normaliser: tuple[int, int] = OUTER_EYE_CORNERS
) -> NDArray[np.float64]:
    """Distance of each landmark from its true place, over that face's distance between the two normalising landmarks.

    Args:
        pred, truth: (N, n, 2), in the same pixels.
        normaliser: indices of the outer eye corners.

    Returns:
        (N, n) fractions, 0 or more.

    Raises:
        BadInputError: no face, shapes that differ, a value that is not finite, or a face whose normaliser is zero.
    """
    got, want = np.asarray(pred, np.float64), np.asarray(truth, np.float64)
    if got.shape != want.shape or want.ndim != 3 or want.shape[2:] != (2,):
        raise BadInputError(
            f"predictions of shape {got.shape} against truth of shape {want.shape}", expected="(N, n, 2) twice"
        )
    if want.size == 0:
        raise BadInputError("no landmarks to measure", expected="at least one face")
    for name, values in (("prediction", got), ("truth", want)):
        if not np.isfinite(values).all():
            face, landmark, _ = np.argwhere(~np.isfinite(values))[0]
            raise BadInputError(
                f"{name} of face {face}: landmark {landmark} is at {values[face, landmark]}",
                expected="finite coordinates",
            )
    if not all(0 <= index < want.shape[1] for index in normaliser):
        raise BadInputError(f"normaliser {normaliser}", expected=f"two indices below {want.shape[1]}")
    unit = np.linalg.norm(want[:, normaliser[0]] - want[:, normaliser[1]], axis=-1)
    if not (unit > 0).all():
        raise BadInputError(
            f"face {int(np.argmin(unit))} has landmarks {normaliser[0]} and {normaliser[1]} in one place",
            expected="a distance above 0 to measure in",
        )
    return np.linalg.norm(got - want, axis=-1) / unit[:, None]


def face_errors(
    pred: ArrayLike, truth: ArrayLike, normaliser: tuple[int, int] = OUTER_EYE_CORNERS
) -> NDArray[np.float64]:
    """Mean landmark error of each face: (N, n, 2) twice -> (N,) fractions. Raises as ``landmark_errors``."""
    return landmark_errors(pred, truth, normaliser).mean(axis=1)


def summarise(
    pred: ArrayLike,
    truth: ArrayLike,
    normaliser: tuple[int, int] = OUTER_EYE_CORNERS,
    threshold: float = THRESHOLD,
) -> Accuracy:
    """All landmark figures of a set of faces. Arguments and errors as ``landmark_errors``."""
    return summarise_errors(landmark_errors(pred, truth, normaliser), threshold)


def summarise_errors(errors: ArrayLike, threshold: float = THRESHOLD) -> Accuracy:
    """All landmark figures from (N, n) landmark errors, as ``landmark_errors`` gives them.

    Raises:
        BadInputError: no errors, one that is not finite or below 0, or a threshold of 0 or less.
    """
    each = _checked(errors, threshold, dimensions=2)
    faces = each.mean(axis=1)
    return Accuracy(
        faces=len(faces),
        nme=float(faces.mean()) * 100,
        median=float(np.median(faces)) * 100,
        fr=float((faces > threshold).mean()) * 100,
        landmark_fr=float((each > threshold).mean()) * 100,
        auc=area_under_ced(faces, threshold),
        threshold=threshold,
    )


def area_under_ced(errors: ArrayLike, threshold: float = THRESHOLD) -> float:
    """AUC: the integral of the CED from 0 to the threshold, over the threshold.

    Exact, not sampled: the CED is a step function, and a face with error e <= t adds a step of 1/N over a length t - e.

    Args:
        errors: (N,) fractions.

    Returns:
        In [0, 1]; 1 where every error is 0.
    """
    return float(np.maximum(1 - _checked(errors, threshold, dimensions=1) / threshold, 0).mean())


def ced(
    errors: ArrayLike, threshold: float = THRESHOLD, steps: int = 200
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Cumulative error distribution, for drawing.

    Args:
        errors: (N,) fractions.
        threshold: right end of the curve.
        steps: number of intervals.

    Returns:
        x: (steps + 1,) from 0 to the threshold. y: (steps + 1,) share of faces, in [0, 1], with an error of at most x.
    """
    ordered = np.sort(_checked(errors, threshold, dimensions=1))
    if steps < 1:
        raise BadInputError(f"a curve of {steps} steps", expected="at least 1")
    x = np.linspace(0, threshold, steps + 1)
    return x, np.searchsorted(ordered, x, side="right") / len(ordered)


def auroc(score: ArrayLike, label: ArrayLike) -> float:
    """Probability that a positive scores above a negative, ties counting half (the Mann-Whitney statistic).

    Args:
        score: (N,) finite, higher for positives.
        label: (N,) 1 or True for positives.

    Returns:
        In [0, 1]; 0.5 is chance.

    Raises:
        BadInputError: shapes differ, a score is not finite, a label is neither 0 nor 1, or a class is missing.
    """
    scores, positive = _scored(score, label)
    positives, negatives = int(positive.sum()), int((~positive).sum())
    if not positives or not negatives:
        raise BadInputError(f"{positives} positives and {negatives} negatives", expected="at least one of each")
    _, inverse, count = np.unique(scores, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    rank = (last - (count - 1) / 2)[inverse]  # equal scores share the mean of their ranks, from 1
    return float((rank[positive].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def expected_calibration_error(prob: ArrayLike, label: ArrayLike, bins: int = 15) -> float:
    """How far stated probabilities are from what happens (Guo et al. 2017, eq. 3, for the positive class).

    Equal-width bins over [0, 1]; the mean over samples of |share of positives - mean probability| in the sample's bin.

    Args:
        prob: (N,) in [0, 1].
        label: (N,) 1 or True where it happened.
        bins: number of bins.

    Returns:
        In [0, 1]; 0 is calibrated.
    """
    probability, positive = _scored(prob, label)
    if ((probability < 0) | (probability > 1)).any():
        raise BadInputError(f"probability {probability[(probability < 0) | (probability > 1)][0]:g}", expected="0 to 1")
    if bins < 1:
        raise BadInputError(f"{bins} bins", expected="at least 1")
    place = np.minimum((probability * bins).astype(np.intp), bins - 1)
    gap = np.bincount(place, positive - probability, minlength=bins)
    return float(np.abs(gap).sum() / len(probability))


def _checked(errors: ArrayLike, threshold: float, dimensions: int) -> NDArray[np.float64]:
    values = np.asarray(errors, np.float64)
    if values.ndim != dimensions or values.size == 0:
        raise BadInputError(
            f"errors of shape {values.shape}", expected="(N,) with N > 0" if dimensions == 1 else "(N, n) with N, n > 0"
        )
    if not (np.isfinite(values) & (values >= 0)).all():
        raise BadInputError("errors hold a value that is negative or not finite", expected="0 or more")
    if not threshold > 0:
        raise BadInputError(f"threshold {threshold}", expected="above 0")
    return values


def _scored(score: ArrayLike, label: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    scores, labels = np.asarray(score, np.float64), np.asarray(label)
    if scores.shape != labels.shape or scores.ndim != 1 or scores.size == 0:
        raise BadInputError(
            f"scores of shape {scores.shape} and labels of shape {labels.shape}", expected="(N,) twice, N > 0"
        )
    if not np.isfinite(scores).all():
        raise BadInputError(f"score {int(np.argwhere(~np.isfinite(scores))[0, 0])} is not finite", expected="numbers")
    if not np.isin(labels, (0, 1)).all():
        raise BadInputError("a label is neither 0 nor 1", expected="1 for positives, 0 for negatives")
    return scores, labels.astype(bool)
