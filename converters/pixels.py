"""Preprocessing inside the network: the phone feeds ``uint8`` pixels, and nothing else normalises.

image (1, 3, S, S) uint8 --float32--> x / std - mean / std --> the network as it was trained

The multiply-add is folded into the first convolution's weights where that convolution does not pad with zeros. Where it
does, the zeros stand for the mean colour; folded they would stand for black, and every border would change.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import msgspec
import numpy as np
import torch
from torch import Tensor, nn

from pocketface.converters.formats.interface import INPUT, output_names
from pocketface.sdk.errors import BadInputError
from pocketface.sdk.manifest import Preprocess

Channels = Literal["RGB", "BGR"]
Fold = Literal["auto", "never", "weights"]

CONVOLUTION_ERROR, OUTPUT_ERROR = 1e-5, 1e-3
"""A folded network may differ from the multiply-add by this share of the largest value: rounding of one convolution,
and what later layers make of it. A wrong fold is off by the pixels' own size."""

_FLAT = 1e-4
"""Spread of a convolution's answer to one colour, relative to its size, above which it sees a border."""


class PixelInput(nn.Module):
    """A network that takes uint8 pixels. It is a copy, in evaluation mode, and its modules keep their own paths, so
    that ``keep_float: [features.3]`` and the names in exported files mean the same layers as before.

    Args:
        net: takes (1, 3, S, S) float32, ``(pixel - mean) / std``, as its first input; any others stay as they are.
        mean, std: per channel, in pixel units of [0, 255], in the order in which ``net`` was trained.
        channels: order of the pixels that are fed.
        fold: ``"auto"`` folds into the first convolution where that is exact; ``"weights"`` refuses where it is not;
            ``"never"`` leaves the weights alone.
        trained: channel order of ``net``. Another one than ``channels`` is reached by swapping the first
            convolution's input channels.
        size: S, for the comparison with the network as it was; default: ``net.input_size``.

    Attributes:
        how: ``"folded into features.0.0"`` or ``"multiply-add"``.
        inside: the same, as the contract records it.
        mean, std: in the order of ``channels``.
        name: class of the network.

    Raises:
        BadInputError: ``fold="weights"`` on a convolution that pads with zeros (it is named, with its padding), no
            convolution to swap or fold, or the result is not what the network gave.
    """

    pixel_scale: Tensor
    pixel_shift: Tensor
    _own: nn.Module

    def __init__(
        self,
        net: nn.Module,
        mean: Sequence[float],
        std: Sequence[float],
        channels: Channels = "RGB",
        *,
        fold: Fold = "auto",
        trained: Channels = "RGB",
        size: int = 0,
    ) -> None:
        super().__init__()
        _check(net, mean, std, channels, fold, trained)
        own = copy.deepcopy(net).to("cpu", torch.float32)
        # The network's tables are this module's: exporters see its children under their own names.
        self.heads, self.exact = getattr(net, "heads", ()), getattr(net, "exact", ())
        self._modules, self._parameters, self._buffers = own._modules, own._parameters, own._buffers
        self._non_persistent_buffers_set = own._non_persistent_buffers_set
        self.__dict__["_own"] = own  # not a child
        self.training = False
        self.name = type(net).__name__
        self.channels: Channels = channels
        self.output_names = output_names(net)
        self.input_size = size or int(getattr(net, "input_size", 0))

        swapped = channels != trained
        probe = _Probe.of(own, self.input_size, mean, std) if swapped or fold != "never" else None
        if swapped and probe is not None:
            _swap_channels(own, probe)
        order = [2, 1, 0] if swapped else [0, 1, 2]
        self.mean, self.std = (tuple(float(values[index]) for index in order) for values in (mean, std))
        against = "asked not to" if fold == "never" or probe is None else probe.against_folding()
        if fold == "weights" and against:
            raise BadInputError(
                f"normalisation cannot be folded into the weights: {against}",
                expected="a first convolution without zero padding",
                next='Use fold="auto", which normalises with a multiply-add instead',
            )
        self.inside: Literal["folded", "multiply-add"] = "multiply-add" if against else "folded"
        self.how: str = self.inside
        if self.inside == "multiply-add":
            for name, values in zip(("pixel_scale", "pixel_shift"), _affine(self.mean, self.std), strict=True):
                self.register_buffer(name, torch.tensor(values, dtype=torch.float32).view(1, 3, 1, 1))
        elif probe is not None and probe.path is not None:
            self.how = f"folded into {probe.path}"
            _fold(cast(nn.Conv2d, own.get_submodule(probe.path)), self.mean, self.std)
        if probe is not None and (swapped or self.inside == "folded"):
            probe.check(self, swapped)

    def forward(self, image: Tensor, *rest: Tensor) -> Any:
        """(1, 3, S, S) uint8 (or whole numbers as float32), and any other inputs, -> the network's own outputs."""
        x = image.to(torch.float32)
        if self.inside == "multiply-add":
            x = x * self.pixel_scale + self.pixel_shift
        return self._own.forward(x, *rest)

    def example_inputs(self, size: int) -> dict[str, Tensor]:
        """The network's own, with uint8 pixels first."""
        examples = _examples(self._own, size)
        first = next(iter(examples))
        return {**examples, first: torch.zeros(examples[first].shape, dtype=torch.uint8)}

    def described(self, settings: Preprocess) -> Preprocess:
        """A stage's preprocessing with what happens inside this network."""
        return msgspec.structs.replace(
            settings,
            mean=cast(Any, self.mean),
            std=cast(Any, self.std),
            channels=self.channels,
            inside=self.inside,
        )


@dataclass
class _Probe:
    """The network as it was, its first convolution, and inputs on which a change would show.

    Attributes:
        path: of the first convolution that runs; None where there is none.
        received: what reaches it of the first normalised input.
    """

    net: nn.Module
    path: str | None
    received: Tensor
    pixels: list[Tensor]
    rest: list[Tensor]
    scale: Tensor
    shift: Tensor

    @classmethod
    def of(cls, net: nn.Module, size: int, mean: Sequence[float], std: Sequence[float]) -> _Probe:
        if size < 1:
            raise BadInputError(
                f"{type(net).__name__} does not say its input size",
                expected="an attribute input_size, or the argument size",
                next='Pass size, or fold="never"',
            )
        examples = list(_examples(net, size).values())
        scale, shift = (torch.tensor(values, dtype=torch.float32).view(1, 3, 1, 1) for values in _affine(mean, std))
        before = copy.deepcopy(net)
        pixels = list(_pixels(tuple(examples[0].shape)))
        path, received = _first_convolution(before, pixels[0].float() * scale + shift, examples[1:])
        return cls(before, path, received, pixels, examples[1:], scale, shift)

    @property
    def convolution(self) -> nn.Conv2d | None:
        return None if self.path is None else cast(nn.Conv2d, self.net.get_submodule(self.path))

    def against_folding(self) -> str:
        """Why folding would not be exact, naming the convolution and its padding; empty if nothing is."""
        conv = self.convolution
        if conv is None:
            return f"{type(self.net).__name__} has no Conv2d"
        x = self.pixels[0].float() * self.scale + self.shift
        if self.received.shape != x.shape:
            return (
                f"{self.path} gets {tuple(self.received.shape)} of the input {tuple(x.shape)}: "
                "something before it pads or cuts"
            )
        if not torch.equal(self.received, x):
            return f"something between the input and {self.path} changes the values"
        if conv.padding_mode == "zeros" and conv.padding not in ((0, 0), "valid"):
            return f"{self.path} pads with zeros (padding {_text(conv.padding)})"
        # A picture of one colour stays one through a convolution, unless it sees a border of another colour.
        with torch.no_grad():
            flat = conv(torch.tensor([1.0, -2.0, 3.0]).view(1, 3, 1, 1).expand(x.shape).contiguous())
        spread = (flat.amax((2, 3)) - flat.amin((2, 3))).max() / flat.abs().max().clamp_min(1e-12)
        if spread > _FLAT:
            sides = {name: getattr(conv, name) for name in ("before", "after") if hasattr(conv, name)}
            text = ", ".join(f"{name} {value}" for name, value in sides.items()) or type(conv).__name__
            return f"{self.path} pads with zeros before it convolves ({text})"
        return ""

    def check(self, changed: PixelInput, swapped: bool) -> None:
        """Compare with the network as it was, on noise and on pictures with hard borders."""
        worst: dict[str, float] = {}
        for pixels in self.pixels:
            with torch.no_grad():
                want = _with_convolution(self.net, self.path, pixels.float() * self.scale + self.shift, self.rest)
                fed = pixels.flip(1) if swapped else pixels
                got = _with_convolution(changed, self.path, fed, self.rest)
            for name, a, b in zip(("convolution", *changed.output_names), want, got, strict=True):
                error = float((a - b).abs().max() / a.abs().max().clamp_min(1e-12))
                worst[name] = max(worst.get(name, 0.0), error if np.isfinite(error) else float("inf"))
        for name, error in worst.items():
            bound = CONVOLUTION_ERROR if name == "convolution" else OUTPUT_ERROR
            if not error <= bound:
                what = f"{self.path}" if name == "convolution" else f"output {name!r}"
                doing = changed.how + (f", channels swapped to {changed.channels}" if swapped else "")
                raise BadInputError(
                    f"{doing}: {what} is off by {error:.3g} of its largest value",
                    expected=f"at most {bound:g}: the input must reach that convolution alone",
                    next='Use fold="never"' + (" and the channel order of the training" if swapped else ""),
                )


def _check(net: nn.Module, mean: Sequence[float], std: Sequence[float], channels: str, fold: str, trained: str) -> None:
    if any(module.training for module in net.modules()):
        raise BadInputError(
            f"{type(net).__name__} is in training mode", expected="evaluation mode", next="Call net.eval() first"
        )
    if isinstance(net, PixelInput):
        raise BadInputError("the network takes pixels already", expected="one that takes normalised float32")
    if len(mean) != 3 or len(std) != 3 or not np.isfinite([*mean, *std]).all() or min(std) <= 0:
        raise BadInputError(f"mean {tuple(mean)}, std {tuple(std)}", expected="three finite values each, std above 0")
    for name, value, valid in (
        ("channels", channels, ("RGB", "BGR")),
        ("trained", trained, ("RGB", "BGR")),
        ("fold", fold, ("auto", "never", "weights")),
    ):
        if value not in valid:
            raise BadInputError(f"{name} {value!r}", choices=valid)


def _affine(mean: Sequence[float], std: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """float64 a, b with (x - mean) / std = a x + b."""
    scale = 1 / np.asarray(std, np.float64)
    return scale, -np.asarray(mean, np.float64) * scale


def _examples(net: nn.Module, size: int) -> dict[str, Tensor]:
    make = getattr(net, "example_inputs", None)
    return dict(make(size)) if make else {INPUT: torch.zeros(1, 3, size, size)}


def _pixels(shape: tuple[int, ...]) -> Iterator[Tensor]:
    """uint8 pictures: noise, black, white, a white frame around black, and a chequered one."""
    generator = torch.Generator().manual_seed(0)
    yield torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    yield torch.zeros(shape, dtype=torch.uint8)
    yield torch.full(shape, 255, dtype=torch.uint8)
    frame = torch.full(shape, 255, dtype=torch.uint8)
    frame[..., 1:-1, 1:-1] = 0
    yield frame
    rows, columns = (torch.arange(side) for side in shape[-2:])
    yield ((rows[:, None] + columns) % 2 * 255).to(torch.uint8).expand(shape).contiguous()


def _first_convolution(net: nn.Module, x: Tensor, rest: list[Tensor]) -> tuple[str | None, Tensor]:
    """Path of the first Conv2d that runs, and what it gets."""
    seen: list[tuple[str, Tensor]] = []
    hooks = [
        module.register_forward_pre_hook(lambda _, args, name=name: seen.append((name, args[0].detach().clone())))
        for name, module in net.named_modules()
        if isinstance(module, nn.Conv2d)
    ]
    try:
        with torch.no_grad():
            net(x, *rest)
    finally:
        for hook in hooks:
            hook.remove()
    return seen[0] if seen else (None, x)


def _with_convolution(net: nn.Module, path: str | None, x: Tensor, rest: list[Tensor]) -> list[Tensor]:
    """What the first convolution gives, then the network's outputs."""
    seen: list[Tensor] = []
    hook = net.get_submodule(path or "").register_forward_hook(lambda _, args, result: seen.append(result.clone()))
    try:
        given = net(x, *rest)
    finally:
        hook.remove()
    return [seen[0], *(given if isinstance(given, tuple) else (given,))]


def _swap_channels(net: nn.Module, probe: _Probe) -> None:
    """Let the first convolution read its input channels in the other order."""
    conv = probe.convolution
    if conv is None or probe.path is None or conv.in_channels != 3 or conv.groups != 1:
        raise BadInputError(
            f"the channel order of {type(net).__name__} cannot be swapped: "
            + ("it has no Conv2d" if conv is None else f"{probe.path} does not read all three channels at once"),
            expected="a first convolution of three input channels",
            next="Feed the order of the training",
        )
    with torch.no_grad():
        own = cast(nn.Conv2d, net.get_submodule(probe.path))
        own.weight.copy_(own.weight.flip(1))


def _fold(conv: nn.Conv2d, mean: Sequence[float], std: Sequence[float]) -> None:
    """conv((x - mean) / std) as a convolution of x: w' = w / std, b' = b - sum of w' mean; in float64, in place."""
    with torch.no_grad():
        weight = conv.weight.double()
        outputs, inputs = weight.shape[:2]
        # Input channel that each kernel plane reads, grouped convolutions included.
        group = torch.arange(outputs)[:, None] // (outputs // conv.groups)
        reads = group * inputs + torch.arange(inputs)
        scale, shift = (torch.from_numpy(values)[reads] for values in _affine(mean, std))
        bias = (weight.sum((2, 3)) * shift).sum(1)
        if conv.bias is not None:
            bias = bias + conv.bias.double()
        conv.weight.copy_((weight * scale[:, :, None, None]).float())
        conv.bias = nn.Parameter(bias.float(), requires_grad=conv.weight.requires_grad)


def _text(padding: Any) -> str:
    return repr(padding) if isinstance(padding, str) else " x ".join(str(side) for side in padding)
