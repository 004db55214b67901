"""What was measured of variants and chains, and the bounds they keep: parts of the contract (manifest.py)."""

from __future__ import annotations

import msgspec


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Common settings of every struct here."""


class Tolerances(Part, frozen=True, kw_only=True):
    """Bounds a variant keeps, against the reference: torch fp32, or the file that `Provenance` names. None: no bound.

    Attributes:
        max_tensor_error: largest error of a landmark coordinate, in crop sides, and of the face probability.
        max_nme_increase: rise of the NME on the same faces, in percentage points.
        max_score_error: largest error of the face probability, where it has a bound of its own.
        max_relative_error: largest error of a raw output over that output's largest value, max|a - b| / max|a|.
    """

    max_tensor_error: float | None = None
    max_nme_increase: float | None = None
    max_score_error: float | None = None
    max_relative_error: float | None = None


class OutputParity(Part, frozen=True, kw_only=True):
    """Error of one output against the reference, over every face compared: of normalised coordinates, or of the
    probability.

    Attributes:
        relative_error: of the raw output (the logit, not the probability), max|a - b| / max|a| over all faces; None in
            bundles of before it was measured.
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
        max_pixel_error, mean_pixel_error: landmark distance to the reference's, in pixels of the network's input.
        nme_reference, nme: NME in percent of the reference and of the variant on the same faces.
        golden_error: mean landmark distance to the reference's over the golden cases alone, in crop sides: ``verify``
            asks for it again.
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
