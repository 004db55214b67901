"""What was measured of variants and chains, and the bounds they keep: parts of the contract (manifest.py)."""

from __future__ import annotations

import msgspec


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Common settings of every struct here."""


class Tolerances(Part, frozen=True, kw_only=True):
    """Bounds a variant keeps, against the reference: torch fp32, or the file that `Provenance` names. None: no bound.

    Attributes:
        max_tensor_error: largest error of the main output: of a landmark coordinate or a corner of a corrected box, in
            crop sides; of a picture's values, in shares of full scale. And of a score or head pose that has no bound of
            its own.
        max_nme_increase: rise of the task error (see `Parity.nme`) on the same faces, in percentage points.
        max_score_error: largest error of the face probability.
        max_pose_error: largest error of an angle of the head pose, in degrees / 90; not written where it is None.
        max_relative_error: largest error of a raw output over that output's largest value, max|a - b| / max|a|.
    """

    max_tensor_error: float | None = None
    max_nme_increase: float | None = None
    max_score_error: float | None = None
    max_relative_error: float | None = None
    max_pose_error: float | None = None


class OutputParity(Part, frozen=True, kw_only=True):
    """Error of one output against the reference, over every face compared: of landmark coordinates or of a corrected
    box's corners, in crop sides; of a picture's values in [0, 1]; of the face probability; of head angles, in
    degrees / 90.

    Attributes:
        relative_error: of the raw output (the logit, not the probability; the correction, not the corners),
            max|a - b| / max|a| over all faces; None in bundles of before it was measured.
    """

    max_error: float
    mean_error: float
    relative_error: float | None = None


class Parity(Part, frozen=True, kw_only=True):
    """What was compared, by whom, and what came out.

    Attributes:
        executor: runtime and version that ran the variant, e.g. ``"onnxruntime 1.31.1"``.
        faces: how many faces were compared.
        outputs: output name -> error.
        max_pixel_error, mean_pixel_error: distance of the main output to the reference's: of landmarks or of a box's
            corners, in pixels of the network's input; of pictures, in grey levels of 255.
        nme_reference, nme: task error of the reference and of the variant on the same faces, in percent: NME of
            landmarks; corner error of boxes; pixel error of pictures.
        golden_error: mean distance over the golden cases alone, in crop sides; of pictures, in shares of full scale:
            ``verify`` asks for it again.
    """

    executor: str
    faces: int
    outputs: dict[str, OutputParity]
    max_pixel_error: float
    mean_pixel_error: float
    nme_reference: float | None = None
    nme: float | None = None
    golden_error: float | None = None


class Latency(Part, frozen=True, kw_only=True, omit_defaults=True):
    """Time of one variant, or chain, at one thread count, interleaved with the others; milliseconds."""

    executor: str
    cpu: str
    cpu_features: tuple[str, ...]
    threads: int
    runs: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    pre_ms: float
    inference_ms: float
    post_ms: float
    peak_rss_mb: float
    ratio: float
    """Median inference time over that of the reference variant (the first) in the same interleaved run."""
    stages: dict[str, float] = {}
    """Of a chain: stage -> median of its pre + inference + post. Empty, and not written, for a single network."""


class ChainRun(Part, frozen=True, kw_only=True):
    """What was measured of a whole chain, from the box that was given to the landmarks.

    Attributes:
        id: of the chain, as ``Manifest.chain`` takes it.
        metrics: on the test set, e.g. nme, median, fr, auc.
    """

    id: str
    metrics: dict[str, float] = {}
    latency: tuple[Latency, ...] = ()
