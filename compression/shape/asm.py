"""Soft landmarks: face shapes with the rarest of their variations left out (KD paper, section 3.1).

shapes (N, n, 2) --fit--> mean, eigenvectors, eigenvalues --soften--> shapes nearer to the mean

The Tolerant teacher learns the soft landmarks. No Procrustes alignment: normalised coordinates are used as they are, so
fit the model on shapes drawn as training draws them (rotated, scaled, shifted), or rotation is a variation that it has
never seen and clips.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pocketface.compression.shape.arrays import load_arrays, save_arrays
from pocketface.sdk.errors import BadInputError, ConfigError

SCHEMA = 1
CLIP = 3.0
"""Bound of each shape parameter in standard deviations (Cootes et al. 2000)."""
DEFAULT_SHARE = 0.90


@dataclass(frozen=True, eq=False)
class ShapeModel:
    """A linear model of face shapes: mean + eigenvectors @ b (Pourramezan Fard & Mahoor 2021, eq. 1).

    Attributes:
        mean: (n, 2) float64, normalised.
        eigenvectors: (2n, k) float64, orthonormal columns, largest variance first. k = min(N - 1, 2n) at most: with
            fewer shapes than coordinates the covariance has no more directions of variance.
        eigenvalues: (k,) float64, variances (divisor N - 1) of the shape parameters, all > 0, falling.

    Raises:
        BadInputError: if the arrays do not fit together or hold NaN.
    """

    mean: NDArray[np.float64]
    eigenvectors: NDArray[np.float64]
    eigenvalues: NDArray[np.float64]
    _tensors: dict[object, tuple[Tensor, Tensor, Tensor]] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        for name in ("mean", "eigenvectors", "eigenvalues"):
            array = np.array(getattr(self, name), dtype=np.float64)
            array.setflags(write=False)
            object.__setattr__(self, name, array)
            if not np.isfinite(array).all():
                raise BadInputError(f"shape model: {name} holds NaN or infinity", next="fit the model again")
        n = len(self.mean) if self.mean.ndim else 0
        k = self.eigenvalues.size
        shapes = (self.mean.shape, self.eigenvectors.shape, self.eigenvalues.shape)
        if shapes != ((n, 2), (2 * n, k), (k,)) or not k:
            raise BadInputError(
                "shape model: mean {}, eigenvectors {}, eigenvalues {}".format(*shapes),
                expected="(n, 2), (2n, k), (k,) with k >= 1",
                next="fit the model again",
            )
        if (self.eigenvalues <= 0).any() or (np.diff(self.eigenvalues) > 0).any():
            raise BadInputError(
                "shape model: eigenvalues are not positive and falling",
                expected="variances, largest first",
                next="fit the model again",
            )

    @property
    def n(self) -> int:
        """Number of landmarks."""
        return len(self.mean)

    @classmethod
    def fit(cls, shapes: NDArray[np.floating]) -> ShapeModel:
        """Principal components of training shapes.

        Args:
            shapes: (N, n, 2), normalised to [-0.5, 0.5], N >= 2.

        Raises:
            BadInputError: if the array has another shape, holds NaN or infinity, has fewer than two shapes, or all its
                shapes are equal.
        """
        array = np.asarray(shapes)
        if array.ndim != 3 or array.shape[-1] != 2 or not array.shape[1]:
            raise BadInputError(
                f"shapes to fit are {array.shape}", expected="(N, n, 2)", next="stack the landmarks of all images"
            )
        if len(array) < 2:
            raise BadInputError(
                f"{len(array)} shapes to fit", expected="2 or more", next="add annotated faces to the training split"
            )
        _require_finite(array)
        flat = array.reshape(len(array), -1).astype(np.float64)
        mean = flat.mean(axis=0)
        # The SVD of the centred data gives the covariance's eigenvectors at full precision, and copes with N < 2n.
        _, singular, rows = np.linalg.svd(flat - mean, full_matrices=False)
        variances = singular**2 / (len(flat) - 1)
        # Directions below rounding (matrix_rank's rule, on the uncentred data) have no variance of their own.
        kept = singular > np.linalg.norm(flat) * max(flat.shape) * np.finfo(np.float64).eps
        if not kept.any():
            raise BadInputError(
                f"all {len(array)} shapes to fit are equal",
                expected="shapes that vary",
                next="check that the reader returns each image's own landmarks",
            )
        vectors = rows[kept].T
        # An eigenvector's sign is arbitrary: with its largest entry positive, the same data give the same file.
        largest = np.abs(vectors).argmax(axis=0)
        vectors = vectors * np.sign(vectors[largest, np.arange(vectors.shape[1])])
        return cls(mean.reshape(-1, 2), vectors, variances[kept])

    def count(self, share: float) -> int:
        """How many eigenvectors a share of their number keeps, at least one.

        Raises:
            ConfigError: if share is not in (0, 1].
        """
        if not 0.0 < share <= 1.0:
            raise ConfigError(f"share of eigenvectors is {share}", expected="in (0, 1]", next="use the paper's 0.90")
        return max(1, round(share * self.eigenvalues.size))

    def soften(self, shapes: NDArray[np.floating], share: float = DEFAULT_SHARE) -> NDArray[np.floating]:
        """Soft landmarks (Pourramezan Fard & Mahoor 2021, eqs 1-3).

        b = V^T (f - mean), each b_i clipped to +-3 sqrt(lambda_i), f_new = mean + V b; V holds the first eigenvectors.

        Args:
            shapes: (..., n, 2), normalised.
            share: of the *number* of eigenvectors, in (0, 1]; the paper's 0.90. The smaller, the nearer to the mean.

        Returns:
            (..., n, 2), float32 for float32 input, float64 otherwise.

        Raises:
            BadInputError: on another number of landmarks, NaN or infinity.
            ConfigError: if share is out of range.
        """
        array = np.asarray(shapes)
        self._require_points(array.shape)
        _require_finite(array)
        m = self.count(share)
        vectors, bound = self.eigenvectors[:, :m], CLIP * np.sqrt(self.eigenvalues[:m])
        flat = array.astype(np.float64).reshape(*array.shape[:-2], 2 * self.n)
        b = np.clip((flat - self.mean.ravel()) @ vectors, -bound, bound)
        soft = (self.mean.ravel() + b @ vectors.T).reshape(array.shape)
        return soft.astype(np.float32) if array.dtype == np.float32 else soft

    def soften_tensor(self, points: Tensor, share: float = DEFAULT_SHARE) -> Tensor:
        """``soften`` for a batch on its own device, for use in the training loop.

        Computed in float32 (float64 for float64 points) even under autocast: bfloat16 keeps two digits, too few for a
        target. NaN passes through: looking for it would stall a GPU in every step.

        Args:
            points: (batch, n, 2), normalised.
            share: as in ``soften``.

        Returns:
            (batch, n, 2), float32 (float64 for float64 points), on the same device.

        Raises:
            BadInputError: on another number of landmarks.
            ConfigError: if share is out of range.
        """
        self._require_points(tuple(points.shape))
        dtype = torch.float64 if points.dtype == torch.float64 else torch.float32
        key = (points.device, dtype, self.count(share))
        if key not in self._tensors:
            m = self.count(share)
            arrays = (self.mean.ravel(), self.eigenvectors[:, :m], CLIP * np.sqrt(self.eigenvalues[:m]))
            # to(device) after to(dtype): Apple's GPUs hold no float64.
            mean, vectors, bound = (torch.tensor(a).to(dtype).to(points.device) for a in arrays)
            self._tensors[key] = (mean, vectors, bound)
        mean, vectors, bound = self._tensors[key]
        with torch.autocast(points.device.type, enabled=False):
            b = (points.to(dtype).flatten(-2) - mean) @ vectors
            b = torch.maximum(torch.minimum(b, bound), -bound)
            return (mean + b @ vectors.T).reshape(points.shape)

    def save(self, path: str | Path, *, force: bool = False) -> None:
        """Write the model as a plain ``.npz`` (no pickle), to a temporary name first. Same model, same bytes.

        Raises:
            BadInputError: if the file exists and ``force`` is not set.
            EnvironmentProblemError: if the file cannot be written; nothing is left behind then.
        """
        arrays = {"mean": self.mean, "eigenvectors": self.eigenvectors, "eigenvalues": self.eigenvalues}
        save_arrays(path, arrays, schema=SCHEMA, force=force)

    @classmethod
    def load(cls, path: str | Path) -> ShapeModel:
        """Read what ``save`` wrote.

        Raises:
            BadInputError: if the file is missing, no readable ``.npz``, lacks an array, or is of an unknown schema.
        """
        names = ("mean", "eigenvectors", "eigenvalues")
        return cls(*load_arrays(path, names, schema=SCHEMA, what="shape model", by="ShapeModel.save"))

    def _require_points(self, shape: tuple[int, ...]) -> None:
        if len(shape) < 2 or shape[-2:] != (self.n, 2):
            raise BadInputError(
                f"shapes to soften are {tuple(shape)}",
                expected=f"(..., {self.n}, 2), the landmarks that the model was fitted on",
                next="use the landmark scheme of the fit, or fit again",
            )


def _require_finite(array: NDArray[np.floating]) -> None:
    bad = ~np.isfinite(array).all(axis=(-2, -1))
    if bad.any():
        where = f" (first: shape {int(np.flatnonzero(bad)[0])})" if bad.ndim else ""
        raise BadInputError(
            f"{int(bad.sum())} shapes hold NaN or infinity{where}",
            expected="finite coordinates",
            next="leave these faces out or mend their annotation",
        )
