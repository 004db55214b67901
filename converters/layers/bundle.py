"""A whole bundle against its checkpoint, on its first golden case: preprocessing, then every variant layer by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pocketface.converters.layers.base import Inputs, Tracer
from pocketface.converters.layers.compare import LayerReport, compare_layers
from pocketface.converters.layers.preprocess import PreprocessCheck, check_preprocess, network_inputs
from pocketface.converters.layers.registry import TRACERS
from pocketface.converters.layers.torch import Reference, reference_trace
from pocketface.sdk.bundle import Bundle
from pocketface.sdk.errors import BadInputError, EnvironmentProblemError, PocketfaceError, UnknownNameError

if TYPE_CHECKING:
    from torch import nn

MAX_OUTPUT_ERROR = 1e-3
"""Relative, between what the checkpoint gives and the recorded golden outputs: another processor's rounding."""

_ANOTHER = "Give the checkpoint that the bundle was made from with --checkpoint"


@dataclass(frozen=True)
class BundleLayers:
    """What was found out about a bundle, layer by layer.

    Attributes:
        preprocess: before the network.
        reports: one a variant that could be traced.
        untraced: id -> why not, where nothing here can trace it.
        broken: id -> what its runtime said.
    """

    preprocess: PreprocessCheck
    reports: tuple[LayerReport, ...]
    untraced: dict[str, str]
    broken: dict[str, str]

    def failures(self) -> list[str]:
        """Why the bundle does not pass, each naming the place; empty if it passes."""
        found = [" ".join(str(self.preprocess).split())] if self.preprocess.place else []
        found += [f"{id} layers: {reason}" for id, reason in self.broken.items()]
        for report in self.reports:
            if report.first is not None:
                found.append(" ".join(f"{report.variant}: first diverging tensor: {report.first}".split()))
        return found

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "preprocess": self.preprocess.to_dict(),
            "variants": [report.to_dict() for report in self.reports],
            "untraced": dict(self.untraced),
            "broken": dict(self.broken),
        }


def localise_bundle(bundle: Bundle, net: nn.Module, *, variants: Sequence[str] = ()) -> BundleLayers:
    """Compare the variants of an opened bundle with the network they were made from, tensor by tensor.

    Args:
        bundle: the bundle; its first golden case is the input.
        net: the network, in evaluation mode.
        variants: ids (default: all).

    Raises:
        BadInputError: the network does not take or give what the bundle's contract says.
    """
    manifest = bundle.manifest
    ids = list(variants) or [variant.id for stage in manifest.stages for variant in stage.variants]
    stage = manifest.variant(ids[0])[0]
    case = bundle.golden()[0]
    image = stage.inputs[0].name
    fed = {spec.name: case[f"step0.input.{spec.name}"] for spec in stage.inputs}
    inputs = {**fed, image: network_inputs(case, image, stage.preprocess)}
    reference = _reference(net, inputs)
    _check_checkpoint(reference, case)
    reports: list[LayerReport] = []
    untraced: dict[str, str] = {}
    broken: dict[str, str] = {}
    for id in ids:
        variant = manifest.variant(id)[1]
        try:
            tracer: Tracer = TRACERS[variant.format]
            reports.append(compare_layers(reference, tracer.trace(bundle.variant_path(variant), variant, fed), variant))
        except (EnvironmentProblemError, UnknownNameError) as error:
            untraced[id] = error.what
        except PocketfaceError as error:
            broken[id] = error.what
    return BundleLayers(check_preprocess(case, image, stage.preprocess, net), tuple(reports), untraced, broken)


def _reference(net: nn.Module, inputs: Inputs) -> Reference:
    try:
        return reference_trace(net, inputs)
    except (RuntimeError, ValueError) as error:  # torch's words for a network of another shape
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise BadInputError(
            f"the checkpoint's network does not take the golden input ({first})", next=_ANOTHER
        ) from error


def _check_checkpoint(reference: Reference, case: Mapping[str, NDArray[Any]]) -> None:
    """Refuse another network than the bundle's: every tensor would diverge."""
    for name, found in reference.outputs.items():
        wanted = case.get(f"step0.output.{name}")
        if wanted is None or wanted.shape != found.shape:
            got = f"the checkpoint's network gives {name} {found.shape}"
            raise BadInputError(got, expected="none" if wanted is None else str(wanted.shape), next=_ANOTHER)
        error = float(np.abs(found - wanted).max()) / (float(np.abs(wanted).max()) or 1.0)
        if not error <= MAX_OUTPUT_ERROR:
            raise BadInputError(
                f"the checkpoint's network is not the bundle's: {name} differs from the recorded golden output by "
                f"{error:.2g} of its largest value",
                expected=f"at most {MAX_OUTPUT_ERROR:g}",
                next=_ANOTHER,
            )
