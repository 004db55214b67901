"""Torch networks on the test faces, and how well the face score tells faces from other crops. Runs after every
choice is made."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from pocketface.benchmarks.data.fingerprint import dataset_hash
from pocketface.benchmarks.metrics import Accuracy, auroc, expected_calibration_error, landmark_errors, summarise
from pocketface.compression.augment.spec import AugmentSpec
from pocketface.compression.augment.views import ViewRenderer
from pocketface.compression.pipeline.context import Context
from pocketface.compression.pipeline.inputs import as_tensor, reference_pixels, reference_truth
from pocketface.compression.pipeline.train import Trained
from pocketface.compression.training.tensors import predict

ACCURACY_VERSION = 1
SCORE_VERSION = 1


class NetworkAccuracy(msgspec.Struct, frozen=True):
    """A torch network on a split.

    Attributes:
        accuracy: over all faces.
        names: of the faces.
        errors: normalised error of each, a fraction.
    """

    accuracy: Accuracy
    names: list[str]
    errors: list[float]

    @property
    def figures(self) -> dict[str, float]:
        """NME and the like, as a manifest keeps them."""
        return {name: getattr(self.accuracy, name) for name in ("nme", "median", "fr", "landmark_fr", "auc")}


class ScoreQuality(msgspec.Struct, frozen=True):
    """The face score on test faces and on as many crops of the same photos that hold no well-placed face.

    Attributes:
        auroc, ece: in [0, 1].
        faces, others: how many.
        bins: (mean score, share of faces, count) of ten equal bins of the score, empty ones left out.
    """

    auroc: float
    ece: float
    faces: int
    others: int
    bins: list[tuple[float, float, int]]


def accuracy_stage(context: Context, trained: Trained, split: str = "test") -> NetworkAccuracy:
    """NME, FR and AUC of a torch network; ``split`` is ``"test"`` or ``"validation"``."""
    faces = getattr(context.split, split)

    def make(_folder: Path) -> NetworkAccuracy:
        net = trained.load(context.split.scheme.points)
        points, _ = predict(net, as_tensor(reference_pixels(faces, net.input_size)))
        truth, normaliser = reference_truth(faces), context.split.scheme.normaliser
        errors = landmark_errors(points.numpy(), truth, normaliser).mean(axis=1)
        return NetworkAccuracy(
            summarise(points.numpy(), truth, normaliser), [face.name for face in faces], errors.tolist()
        )

    inputs = {"network": trained.done.key, "faces": dataset_hash(faces)}
    name = f"{split}-{trained.name}"
    return context.store.figures(name, ACCURACY_VERSION, inputs, make, NetworkAccuracy, file="accuracy.json")


def score_stage(context: Context, trained: Trained) -> ScoreQuality:
    """AUROC and calibration of the face score on the test photos."""
    cache = context.test_cache

    def make(_folder: Path) -> ScoreQuality:
        net = trained.load(context.split.scheme.points)
        plain = AugmentSpec(**dict.fromkeys(AugmentSpec.__struct_fields__, 0.0))
        renderer = ViewRenderer(cache, plain, seed=context.recipe.seed, flip=context.split.scheme.flip)
        index = np.arange(len(cache))
        others = renderer.negatives(index, np.zeros_like(index), net.input_size)
        pixels = as_tensor(reference_pixels(context.split.test, net.input_size))
        logits = np.concatenate([predict(net, crops)[1].numpy() for crops in (pixels, others)])
        probability = 1 / (1 + np.exp(-logits.astype(np.float64)))
        label = np.repeat([1, 0], [len(pixels), len(others)])
        return ScoreQuality(
            auroc=auroc(logits, label),
            ece=expected_calibration_error(probability, label),
            faces=len(pixels),
            others=len(others),
            bins=reliability(probability, label),
        )

    inputs = {"network": trained.done.key, "faces": dataset_hash(context.split.test), "seed": context.recipe.seed}
    name = f"score-{trained.name}"
    return context.store.figures(name, SCORE_VERSION, inputs, make, ScoreQuality, file="score.json")


def reliability(
    probability: NDArray[np.float64], label: NDArray[np.int64], bins: int = 10
) -> list[tuple[float, float, int]]:
    """(mean score, share of positives, count) per equal bin of [0, 1]; empty bins are left out."""
    which = np.minimum((probability * bins).astype(int), bins - 1)
    chosen = [which == number for number in range(bins)]
    return [(float(probability[c].mean()), float(label[c].mean()), int(c.sum())) for c in chosen if c.any()]
