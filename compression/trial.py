"""Try a network in formats and precisions before it is trained: random weights convert, run and round like real ones.

random network --make--> file --executor--> outputs, against torch on the same random pictures

Tells whether a variant converts, computes what torch computes and holds what its precision promises. Says nothing about
the accuracy of a trained one: that is what the gates of a run are for.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pocketface.compression.models.gtn import StagedNet
from pocketface.compression.models.registry import ModelSpec, build_network
from pocketface.compression.quantize.inputs import with_others
from pocketface.compression.variants import make, settings_for
from pocketface.converters.audit import audit
from pocketface.converters.executors.errors import CannotRunError
from pocketface.converters.formats.base import ConversionError, Exported
from pocketface.converters.formats.interface import INPUT, output_names
from pocketface.converters.parity import backend_of
from pocketface.converters.pixels import PixelInput
from pocketface.sdk.errors import EnvironmentProblemError, PocketfaceError

MAX_RELATIVE_ERROR = {"fp32": 1e-5, "fp16": 2e-2}
"""Bounds on max|a - b| / max|a| of each output, where arithmetic alone differs."""

MIN_SQNR = {"w8": 20.0, "pal6": 9.0, "pal4": 2.0, "w8a8": 8.0}
"""Bounds on the signal-to-quantization-noise ratio of all outputs together, decibels, where weights are rounded. Random
weights have no redundancy, so the bounds are lenient; a wrong scale, channel or layout is below 0. In w8 an
EfficientNet-Lite0 has 33 dB with pooled features and 26 dB with its whole last map, and a U-Net, which magnifies that
map's noise by eight convolutions without shortcuts, 22 dB; in pal6 it has 11 dB, in pal4 4 dB."""

PICTURES = 4


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """What came out of one variant.

    Attributes:
        status: ``verified``: it was made, ran, and agrees with torch; ``unverified``: nothing here can run it.
        reason: why it is not verified.
        operation, modules: at which the converter gave up, where that is known.
        executor: what ran it.
        error: max|a - b| / max|a|, the larger one of all outputs.
        sqnr: decibels, over all outputs.
        bytes, seconds: of the file; what making and running it took.
    """

    network: str
    format: str
    precision: str
    status: Literal["verified", "failed", "unverified"]
    reason: str = ""
    operation: str = ""
    modules: tuple[str, ...] = ()
    executor: str = ""
    error: float | None = None
    sqnr: float | None = None
    bytes: int = 0
    seconds: float = 0.0


def random_network(
    spec: ModelSpec, *, seed: int = 0, pixels: bool = False, n_points: int = 68, n_classes: int = 2
) -> nn.Module:
    """A network with random weights and the batch-norm statistics of random pictures, in evaluation mode.

    Args:
        spec: what to build; pretrained weights are not loaded.
        pixels: take uint8 pixels and normalise inside.
        n_points: of landmarks.
        n_classes: of a mask, the background included.
    """
    torch.manual_seed(seed)
    scratch = msgspec.structs.replace(spec, init="scratch")
    net: Any = build_network(scratch, n_points=n_points, n_classes=n_classes).train()
    for block in net.modules():
        if getattr(block, "shortcut", False):
            # A block adds little to its shortcut, as in trained networks (Goyal et al. 2017, 5.1, start at zero).
            # Otherwise random ones are chaotic: rounding grows from block to block, float32's a hundredfold.
            *_, last = (module for module in block.modules() if isinstance(module, nn.BatchNorm2d))
            nn.init.constant_(last.weight, 0.1)
        elif hasattr(block, "downsample"):
            nn.init.constant_(block.bn2.weight, 0.1)  # a ResNet's block, whose last batch norm may be its shortcut's
    for module in net.modules():
        if hasattr(module, "start_at_zero"):
            # The input of a previous mask: what it adds to the picture's first convolution should be as large.
            nn.init.kaiming_normal_(module.conv.weight)
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear) and not module.weight.any():
            nn.init.normal_(module.weight, std=0.003)  # it starts at nothing, and nothing would be compared
    if isinstance(net, StagedNet):
        # Its points would all lie in the middle, at 0, and rounding be measured against that.
        net.set_mean_shape(0.8 * torch.rand(n_points, 2) - 0.4)
    if hasattr(net, "score"):
        # One number that nearly cancels out would measure rounding against nothing.
        net.score.weight.data.abs_()
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [module.momentum for module in norms]
    for module in norms:
        module.momentum = None  # the plain mean of all batches
    size = spec.input_size
    with torch.no_grad():
        for batch in range(2):
            others = others_of(net, 8, size, seed=1000 + batch)
            net(_normalised(pictures(8, size, seed=1000 + batch), net), *map(torch.from_numpy, others.values()))
    for module, momentum in zip(norms, momenta, strict=True):
        module.momentum = momentum
    net.eval()
    shipped: nn.Module = PixelInput(net, net.mean, net.std).eval() if pixels else net
    return shipped


def pictures(count: int, size: int, *, seed: int = 0) -> NDArray[np.uint8]:
    """(count, 3, size, size) uint8: random shapes in random colours, with a little noise; not faces."""
    rng = np.random.default_rng(seed)
    cells = 8
    coarse = rng.integers(0, 256, (count, 3, cells, cells)).astype(np.float64)
    index = np.minimum(np.arange(size) * cells // size, cells - 1)
    noisy = coarse[:, :, index][:, :, :, index] + rng.normal(0, 8, (count, 3, size, size))
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


def inputs_of(net: nn.Module, images: NDArray[np.uint8]) -> NDArray[Any]:
    """Pictures as a network takes them: normalised float32, or the pixels themselves."""
    return images if isinstance(net, PixelInput) else _normalised(images, net).numpy()


def others_of(net: nn.Module, count: int, size: int, *, seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """What a network takes beside pictures: input name -> (count, C, M, M) float32, class probabilities of 0 and 1 in a
    grid of 4 x 4 random classes, as the masks of frames before are sharp and of one piece.

    Args:
        net: its ``example_inputs`` say what it takes, see converters/formats/interface.py.
        size: side of the pictures, pixels.
    """
    make_examples = getattr(net, "example_inputs", None)
    found: dict[str, NDArray[np.float32]] = {}
    for name, value in (make_examples(size) if make_examples else {}).items():
        if name != INPUT:
            classes, side = value.shape[1], value.shape[-1]
            index = np.arange(side) * 4 // side
            cells = np.random.default_rng(seed).integers(0, classes, (count, 4, 4))[:, index][:, :, index]
            found[name] = np.ascontiguousarray(np.eye(classes, dtype=np.float32)[cells].transpose(0, 3, 1, 2))
    return found


def try_variants(
    name: str,
    net: nn.Module,
    size: int,
    formats: Mapping[str, Sequence[str]],
    folder: Path,
    *,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    quantize: Mapping[str, Mapping[str, Any]] | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Iterator[Trial]:
    """Make and run each variant of a network; an error of one does not stop the others.

    Args:
        name: of the network, for the results.
        net: see ``random_network``; any other network in evaluation mode works too.
        size: side of its input, pixels.
        formats: format -> precisions. fp32 is made where it is not asked for: the others come from it.
        folder: for the files.
        options, quantize: settings of exporters by format, of quantizers by FORMAT.PRECISION.
        say: told before each variant.
    """
    images = inputs_of(net, pictures(PICTURES, size, seed=1))
    others = others_of(net, PICTURES, size, seed=1)
    calibration = with_others(inputs_of(net, pictures(16, size, seed=2)), others_of(net, 16, size, seed=2))
    given = {INPUT: images, **others}
    truth = _torch_outputs(net, given)
    for format, precisions in formats.items():
        fp32: Exported | None = None
        failed: PocketfaceError | None = None
        for precision in dict.fromkeys(("fp32", *precisions)):
            say(f"{name}: {format} {precision}")
            start = time.monotonic()
            made: Exported | None = None
            settings = settings_for(format, precision, options or {}, quantize or {})
            try:
                if failed is not None:
                    raise failed  # without its fp32 file there is nothing to make it from
                made = make(
                    net,
                    format,
                    precision,
                    folder,
                    input_size=size,
                    fp32=fp32,
                    calibration=calibration,
                    options=settings,
                )
                found = _judged(made, given, truth)
            except PocketfaceError as error:
                # The files are gone afterwards, logs too.
                reason = error.text() if isinstance(error, ConversionError) else str(error)
                found = {"status": "failed", "reason": reason}
                if precision == "fp32":
                    failed = error
                if isinstance(error, ConversionError) and error.failure is not None:
                    found |= {"operation": error.failure.operation, "modules": error.failure.modules}
            if precision == "fp32":
                fp32 = made
            if precision in precisions:
                size_bytes = made.total_bytes if made is not None else 0
                yield Trial(
                    network=name,
                    format=format,
                    precision=precision,
                    bytes=size_bytes,
                    seconds=round(time.monotonic() - start, 1),
                    **found,
                )


def _judged(
    made: Exported, given: Mapping[str, NDArray[Any]], truth: Mapping[str, NDArray[np.float32]]
) -> dict[str, Any]:
    """Status, reason and figures of a file that was made."""
    problems = list(audit(made, made.format, made.precision).problems)
    try:
        backend = backend_of(made)
    except (CannotRunError, EnvironmentProblemError) as error:  # no fault of the file; any other error is one
        if problems:
            return {"status": "failed", "reason": "; ".join(problems)}
        return {"status": "unverified", "reason": str(error)}
    rows = [backend.run({name: value[index : index + 1] for name, value in given.items()}) for index in range(PICTURES)]
    outputs = {name: np.concatenate([row[name] for row in rows]) for name in truth}
    largest, sqnr = relative_error(outputs, truth), sqnr_db(outputs, truth)
    bound, floor = MAX_RELATIVE_ERROR.get(made.precision), MIN_SQNR.get(made.precision, 3.0)
    # Written so that NaN fails.
    if bound is not None and not largest <= bound:
        problems.append(f"relative error {largest:.2g} > {bound:g}")
    if bound is None and not sqnr >= floor:
        problems.append(f"signal to quantization noise {sqnr:.1f} dB < {floor:g} dB")
    return {
        "status": "failed" if problems else "verified",
        "reason": "; ".join(problems),
        "executor": backend.executor,
        "error": float(f"{largest:.2g}") if math.isfinite(largest) else None,
        "sqnr": round(sqnr, 1) if math.isfinite(sqnr) else None,
    }


def relative_error(outputs: Mapping[str, NDArray[Any]], truth: Mapping[str, NDArray[Any]]) -> float:
    """max|a - b| / max|a| of each output; the largest. NaN if an output holds NaN."""
    found = [
        float(np.abs(outputs[name].astype(np.float64) - value).max() / max(float(np.abs(value).max()), 1e-30))
        for name, value in truth.items()
    ]
    return math.nan if any(math.isnan(value) for value in found) else max(found)


def sqnr_db(outputs: Mapping[str, NDArray[Any]], truth: Mapping[str, NDArray[Any]]) -> float:
    """10 log10(signal / noise) of mean squares; each output counts alike, whatever its scale."""
    noise = 0.0
    for name, value in truth.items():
        signal = max(float(np.square(value, dtype=np.float64).mean()), 1e-30)
        noise += float(np.square(outputs[name].astype(np.float64) - value).mean()) / signal
    return math.inf if noise == 0 else 10 * math.log10(len(truth) / noise)


def _torch_outputs(net: nn.Module, given: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
    names = output_names(net)
    with torch.no_grad():
        rows = [
            net(*(torch.from_numpy(value[index : index + 1].copy()) for value in given.values()))
            for index in range(PICTURES)
        ]
    return {
        name: np.concatenate([(row if isinstance(row, tuple) else (row,))[number].numpy() for row in rows])
        for number, name in enumerate(names)
    }


def _normalised(images: NDArray[np.uint8], net: nn.Module) -> torch.Tensor:
    mean, std = (torch.tensor(getattr(net, name)).view(1, 3, 1, 1) for name in ("mean", "std"))
    return (torch.from_numpy(images.astype(np.float32)) - mean) / std
