"""What runs a bundle, whatever the bundle is for."""

from __future__ import annotations

from typing import TypeAlias

from pocketface.sdk.backends.delegates import AUTO
from pocketface.sdk.bundle import Bundle
from pocketface.sdk.chain import Executors
from pocketface.sdk.mask_predictor import MaskPredictor
from pocketface.sdk.predictor import Predictor

AnyPredictor: TypeAlias = Predictor | MaskPredictor


def predictor_of(
    bundle: Bundle,
    *,
    variant: str | None = None,
    threads: int = 1,
    delegate: str = AUTO,
    executor: Executors | None = None,
) -> AnyPredictor:
    """A `MaskPredictor` of a segmentation, a `Predictor` of landmarks; arguments and errors as theirs."""
    kind = MaskPredictor if bundle.manifest.stages[-1].task == "segmentation" else Predictor
    return kind(bundle, variant=variant, threads=threads, delegate=delegate, executor=executor)
