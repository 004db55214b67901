"""A whole bundle against its checkpoint, on its first golden case: preprocessing, then every variant layer by layer."""

from __future__ import annotations

import dataclasses
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
from pocketface.sdk.chain import View, onward
from pocketface.sdk.errors import BadInputError, EnvironmentProblemError, PocketfaceError, UnknownNameError
from pocketface.sdk.geometry import Box, Crop
from pocketface.sdk.manifest import Stage

if TYPE_CHECKING:
    from torch import nn

MAX_OUTPUT_ERROR = 1e-3
"""Relative, between what the checkpoint gives and the recorded golden outputs: another processor's rounding."""

_ANOTHER = "Give the checkpoint that the bundle was made from with --checkpoint"


@dataclass(frozen=True)
class BundleLayers:
    """What was found out about a bundle, layer by layer.

    Attributes:
        preprocess: before each network, by stage.
        reports: one a variant that could be traced.
        untraced: id -> why not, where nothing here can trace it.
        broken: id -> what its runtime said.
    """

    preprocess: dict[str, PreprocessCheck]
    reports: tuple[LayerReport, ...]
    untraced: dict[str, str]
    broken: dict[str, str]

    def failures(self) -> list[str]:
        """Why the bundle does not pass, each naming the place; empty if it passes."""
        found = [f"{where}{' '.join(str(check).split())}" for where, check in self.places() if check.place]
        found += [f"{id} layers: {reason}" for id, reason in self.broken.items()]
        for report in self.reports:
            if report.first is not None:
                found.append(" ".join(f"{report.variant}: first diverging tensor: {report.first}".split()))
        return found

    def places(self) -> list[tuple[str, PreprocessCheck]]:
        """What to say before each preprocessing check: of a chain, its stage."""
        chain = len(self.preprocess) > 1
        return [(f"{name}: " if chain else "", check) for name, check in self.preprocess.items()]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able. ``preprocess`` is that of the one stage; of several, stage name -> that."""
        checks = {name: check.to_dict() for name, check in self.preprocess.items()}
        return {
            "preprocess": checks if len(checks) > 1 else next(iter(checks.values()), None),
            "variants": [report.to_dict() for report in self.reports],
            "untraced": dict(self.untraced),
            "broken": dict(self.broken),
        }


def localise_bundle(
    bundle: Bundle, nets: nn.Module | Mapping[str, nn.Module], *, variants: Sequence[str] = ()
) -> BundleLayers:
    """Compare the variants of an opened bundle with the networks they were made from, tensor by tensor.

    Args:
        bundle: the bundle; its first golden case is the input.
        nets: the network, in evaluation mode; of a chain, stage name -> network.
        variants: ids (default: all).

    Raises:
        BadInputError: a stage without its network, or a network that does not take or give what the bundle's contract
            says.
    """
    manifest = bundle.manifest
    ids = list(variants) or [variant.id for stage in manifest.stages for variant in stage.variants]
    given = dict(nets) if isinstance(nets, Mapping) else {manifest.stages[0].name: nets}
    case = bundle.golden()[0]
    found = BundleLayers({}, (), {}, {})
    reports: list[LayerReport] = []
    for number, stage in enumerate(manifest.stages):
        own = [id for id in ids if manifest.variant(id)[0].name == stage.name]
        if not own:
            continue
        if stage.name not in given:
            raise BadInputError(f"no checkpoint of stage {stage.name!r}", choices=given, next=_ANOTHER)
        net, step = given[stage.name], _step(case, manifest.stages, number)
        image = stage.inputs[0].name
        fed = {spec.name: step[f"step0.input.{spec.name}"] for spec in stage.inputs}
        reference = _reference(net, {**fed, image: network_inputs(step, image, stage.preprocess)})
        _check_checkpoint(reference, step)
        for id in own:
            variant = manifest.variant(id)[1]
            try:
                tracer: Tracer = TRACERS[variant.format]
                trace = tracer.trace(bundle.variant_path(variant), variant, fed)
                reports.append(compare_layers(reference, trace, variant))
            except (EnvironmentProblemError, UnknownNameError) as error:
                found.untraced[id] = error.what
            except PocketfaceError as error:
                found.broken[id] = error.what
        # A picture that another stage made is not cut out of the image: ``golden_problems`` makes it again.
        if not any(before.task == "uniformize" for before in manifest.stages[:number]):
            found.preprocess[stage.name] = check_preprocess(step, image, stage.preprocess, net)
    return dataclasses.replace(found, reports=tuple(reports))


def _step(case: Mapping[str, NDArray[Any]], stages: Sequence[Stage], number: int) -> dict[str, NDArray[Any]]:
    """One step of a golden case as the golden case of its stage alone: the box is what the stages before made of it."""
    scale = stages[0].preprocess.box_scale
    view = View(case["image"], Crop.from_box(Box(*(float(value) for value in case["box"])), scale))
    for before, stage in enumerate(stages[:number]):
        view = onward({spec.name: case[f"step{before}.output.{spec.name}"] for spec in stage.outputs}, stage, view)
    (cx, cy), half = (view.crop.cx, view.crop.cy), view.crop.side / scale / 2
    box = case["box"] if number == 0 else np.array((cx - half, cy - half, cx + half, cy + half))
    own = {f"step0.{name.partition('.')[2]}": case[name] for name in case if name.startswith(f"step{number}.")}
    return {"image": case["image"], "box": box, **own}


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
