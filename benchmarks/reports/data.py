"""What a report can show, as one JSON file. Every part is optional: the report says what is missing and why.

A figure that is no number (a diverged loss, the NME of a broken variant) is ``None``: JSON has no NaN, and the report
prints a dash.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

import msgspec

from pocketface.sdk.errors import BadInputError
from pocketface.sdk.files import write_atomic
from pocketface.sdk.manifest import DataSource, Part, Variant

SCHEMA = 1


class Figures(Part, frozen=True, kw_only=True):
    """Accuracy on one set of faces.

    Attributes:
        faces: how many.
        nme, median: mean and median over faces of the normalised error, percent.
        fr: share of faces whose error is above the threshold, percent.
        landmark_fr: share of landmarks whose error is above the threshold, percent.
        auc: area under the CED up to the threshold, in [0, 1].
    """

    faces: int
    nme: float | None
    median: float | None = None
    fr: float | None = None
    landmark_fr: float | None = None
    auc: float | None = None

    @classmethod
    def of(cls, accuracy: Any) -> Figures:
        """From anything with attributes of these names, such as ``pocketface.benchmarks.metrics.Accuracy``."""
        names = ("nme", "median", "fr", "landmark_fr", "auc")
        return cls(faces=int(accuracy.faces), **{name: finite(getattr(accuracy, name, None)) for name in names})


class Epoch(Part, frozen=True, kw_only=True):
    """One epoch of training: mean training loss, and NME on the validation faces in percent if it was measured."""

    epoch: int
    train_loss: float | None = None
    val_nme: float | None = None


class Network(Part, frozen=True, kw_only=True):
    """A torch fp32 network of the run.

    Attributes:
        name: e.g. ``"tough teacher (efficientnet_lite0)"``.
        role: the student is what the variants were exported from.
        parameters, flops: count, and floating point operations of one forward pass.
        accuracy: on the test faces.
        errors: normalised error of each test face, fractions; for the CED.
        history: one entry an epoch.
    """

    name: str
    role: Literal["student", "teacher", "baseline"]
    parameters: int | None = None
    flops: int | None = None
    accuracy: Figures | None = None
    errors: tuple[float | None, ...] = ()
    history: tuple[Epoch, ...] = ()


class VariantResult(Part, frozen=True, kw_only=True):
    """A variant as the bundle lists it (parity, latency, status), with its accuracy on the test faces."""

    variant: Variant
    accuracy: Figures | None = None
    errors: tuple[float | None, ...] = ()


class FaceShot(Part, frozen=True, kw_only=True):
    """A drawn face: PNG bytes (base64 in JSON), the group it stands in, and its caption."""

    title: str
    png: bytes
    group: str = "Faces"


class ReliabilityBin(Part, frozen=True, kw_only=True):
    """Face scores of one bin: their mean, the share that really are faces, and how many there are."""

    score: float
    share: float
    count: int


class FaceScore(Part, frozen=True, kw_only=True):
    """How well the face score tells faces from other crops: AUROC in [0, 1], expected calibration error in [0, 1]."""

    auroc: float | None
    ece: float | None
    faces: int | None = None
    others: int | None = None
    bins: tuple[ReliabilityBin, ...] = ()


class Gate(Part, frozen=True, kw_only=True):
    """A bound the recipe sets: passed, failed, or not checked (``passed`` is None) with the reason in ``note``."""

    gate: str
    variant: str
    figure: float | None
    bound: float | None
    passed: bool | None
    note: str = ""


class ReportData(Part, frozen=True, kw_only=True):
    """Everything a report shows.

    Attributes:
        title, summary: headline, and what was done in a sentence or two.
        created: time in ISO 8601, as the writer wants it shown.
        default: id of the variant the headline speaks of; else the first.
        threshold: of FR, AUC and the CED's axis, a fraction.
        recipe: the recipe's text, verbatim.
        data: the data sets, by name and hash.
        provenance: label -> value, in the order shown: recipe hash, commit, seeds, durations.
        tools: package -> version.
        machine: label -> value.
        notes: what surprised us, a sentence each.
    """

    schema: int = SCHEMA
    title: str
    summary: str = ""
    created: str = ""
    default: str = ""
    threshold: float = 0.1
    networks: tuple[Network, ...] = ()
    variants: tuple[VariantResult, ...] = ()
    gates: tuple[Gate, ...] = ()
    faces: tuple[FaceShot, ...] = ()
    face_score: FaceScore | None = None
    recipe: str = ""
    data: tuple[DataSource, ...] = ()
    provenance: dict[str, str] = msgspec.field(default_factory=dict)
    tools: dict[str, str] = msgspec.field(default_factory=dict)
    machine: dict[str, str] = msgspec.field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def student(self) -> Network | None:
        """The network the variants were exported from."""
        return next((network for network in self.networks if network.role == "student"), None)

    @property
    def headline(self) -> VariantResult | None:
        """The variant the headline speaks of."""
        chosen = (result for result in self.variants if result.variant.id == self.default)
        return next(chosen, self.variants[0] if self.variants else None)


def finite(value: float | None) -> float | None:
    """The number, or None where it is missing, NaN or infinite."""
    return float(value) if value is not None and math.isfinite(value) else None


def save(data: ReportData, path: Path, *, force: bool = False) -> Path:
    """Write the data as indented JSON.

    Raises:
        BadInputError: the file exists and ``force`` is not set.
    """
    write_atomic(path, msgspec.json.format(msgspec.json.encode(data), indent=2) + b"\n", force=force)
    return path


def load(path: Path) -> ReportData:
    """Read what ``save`` wrote.

    Raises:
        BadInputError: the file is missing, is not JSON, or holds other keys or types.
    """
    try:
        data = msgspec.json.decode(path.read_bytes(), type=ReportData)
    except OSError as error:
        raise BadInputError(f"{path}: {error.strerror}", next="Name a report.json that a run wrote") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadInputError(f"{path}: {error}", next="Write it again with this version of pocketface") from error
    if data.schema != SCHEMA:
        raise BadInputError(f"{path}: schema {data.schema}", expected=str(SCHEMA), next="Update pocketface")
    return data
