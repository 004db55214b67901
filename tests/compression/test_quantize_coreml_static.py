"""8 bits in Core ML, seen through coremltools' own loader of MIL programs."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tiny_export import MEAN, SIZE, STD, exported, inputs, pixel_exported, pixel_inputs, pixel_net, tiny_net
from tiny_quantize import FIRST, HEADS, errors, mil_operations, modules, quantized
from torch import Tensor, nn

from pocketface.compression.quantize.inputs import with_others
from pocketface.compression.quantize.registry import QUANTIZERS
from pocketface.converters.audit import is_layer
from pocketface.converters.formats.base import ConversionError, Exported
from pocketface.converters.formats.registry import EXPORTERS
from pocketface.converters.layers.compare import localise
from pocketface.converters.module_paths import COREML_KEY, COREML_WEIGHTS_KEY
from pocketface.converters.parity import backend_of
from pocketface.converters.readers.coreml import READER
from pocketface.sdk.errors import ConfigError
from pocketface.sdk.manifest import Tolerances, Variant

pytestmark = pytest.mark.slow

NAME = "coreml.w8a8"
FLOAT = ("fp32", "fp32", "fp32")
STATIC = ("uint8", "int8", "uint8")
STORED = ("fp32", "int8", "fp32")
KINDS = ("conv", "conv_transpose", "linear")


def only(operation: Any) -> Any:
    """The one operation that reads the result of this one; None where there are more."""
    readers = operation.outputs[0].child_ops
    return readers[0] if len(readers) == 1 else None


def layer(operation: Any) -> tuple[str, str, str]:
    """What an operation with weights reads, how its weights are stored, what is kept of its result."""
    before, weight, behind = operation.x.op, operation.weight.op, only(operation)
    while behind is not None and behind.op_type in ("clip", "relu"):
        behind = only(behind)
    return (
        "uint8" if before is not None and before.op_type == "dequantize" else "fp32",
        str(weight.quantized_data.val.dtype) if weight.op_type == "constexpr_affine_dequantize" else "fp32",
        "uint8" if behind is not None and behind.op_type == "quantize" else "fp32",
    )


def layers(path: Path) -> list[tuple[str, str, str]]:
    """Of each layer with weights, in order."""
    return [layer(operation) for operation in mil_operations(path) if operation.op_type in KINDS]


def kinds(path: Path) -> list[str]:
    """Types of all operations but those which expand weights, in order."""
    return [op.op_type for op in mil_operations(path) if not op.op_type.startswith("constexpr_")]


def made(net: nn.Module, folder: Path, images: NDArray[Any] | None = None, **config: Any) -> Exported:
    """A network in 8 bits."""
    source = EXPORTERS["coreml"].export(net, precision="fp32", path=folder / "a.mlpackage", input_size=SIZE)
    settings = QUANTIZERS[NAME].configure({"weights_only": [], **config})
    given = inputs(8, 1) if images is None else images
    result: Exported = QUANTIZERS[NAME](source, folder / "b.mlpackage", given, net=net, config=settings)
    return result


def off(item: Exported, net: nn.Module, name: str = "map") -> float:
    """Largest error, as a share of the largest value, on images it was calibrated on: these nets bound no range."""
    images = inputs(8, 1)[:4]
    with torch.no_grad():
        wanted = net(torch.from_numpy(images.copy())).numpy()
    backend = backend_of(item)
    found = np.concatenate([backend.run({"image": image[None]})[name] for image in images])
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


def seeded(net: nn.Module) -> nn.Module:
    """In evaluation mode, with weights and batch-norm statistics that no run changes."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, value in net.state_dict().items():
            if value.is_floating_point():
                drawn = torch.rand(value.shape, generator=generator) - (0.0 if "running_var" in name else 0.5)
                value.copy_(drawn + 0.5 if "running_var" in name else drawn)
    return net.eval()


class Chain(nn.Module):
    """Modules one after another, with one output."""

    output_names = ("map",)

    def __init__(self, *parts: nn.Module) -> None:
        super().__init__()
        self.parts = nn.Sequential(*parts)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.parts(x)
        return result


def test_the_first_layer_and_the_heads_compute_in_float() -> None:
    first = ("fp32", "fp32", "uint8")  # what it gives is rounded for the next one
    special = {FIRST: first, **dict.fromkeys(HEADS, STORED)}
    assert layers(quantized(NAME).path) == [special.get(name, STATIC) for name in modules()]


def test_it_is_as_near_to_torch_as_onnx() -> None:
    for ours, theirs in zip(errors(quantized(NAME)), errors(quantized("onnx.w8a8")), strict=True):
        assert ours < 1.5 * theirs


def test_results_are_rounded_behind_the_relu6() -> None:
    """Otherwise what it cuts off would have taken most of the steps."""
    operations = mil_operations(quantized(NAME).path)
    rounded = [operation.input.op for operation in operations if operation.op_type == "quantize"]
    assert [operation.op_type for operation in rounded] == ["clip", "clip", "add", "clip", "clip", "clip"]
    tops = [255 * float(operation.scale.val) for operation in operations if operation.op_type == "quantize"]
    assert sorted(tops)[-2] <= 6 * 1.001  # the sum alone may be larger


def test_weights_are_symmetric_per_output_channel_with_batch_norm_in_them() -> None:
    net = tiny_net()
    found = {
        operation.weight.op.quantized_data.val.shape: operation.weight.op
        for operation in mil_operations(quantized(NAME).path)
        if operation.op_type == "conv" and operation.weight.op.op_type == "constexpr_affine_dequantize"
    }
    assert len(found) == 4
    for block in list(net.features)[1:]:
        conv, norm = block[0], block[1]  # type: ignore[index]
        factor = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        folded = (conv.weight * factor.reshape(-1, 1, 1, 1)).detach().numpy()
        stored = found[folded.shape]
        assert (int(stored.axis.val), set(np.ravel(stored.zero_point.val))) == (0, {0})
        steps = np.abs(folded).max(axis=(1, 2, 3)) / 127
        assert np.allclose(stored.scale.val, steps, rtol=1e-5)
        assert np.abs(stored.quantized_data.val - folded / steps.reshape(-1, 1, 1, 1)).max() < 0.501


def test_the_configuration_is_followed(tmp_path: Path) -> None:
    quantizer, source = QUANTIZERS[NAME], exported("coreml")

    def of(name: str, **config: Any) -> Exported:
        settings = quantizer.configure(config)
        path = tmp_path / f"{name}.mlpackage"
        result: Exported = quantizer(source, path, inputs(8, 1), net=tiny_net(), config=settings)
        return result

    everything = of("everything", float_first=False, weights_only=())
    assert layers(everything.path) == len(modules()) * [STATIC]
    assert kinds(everything.path)[0] == "quantize"
    kept = of("kept", keep_float=["features.2", "score"], weights_only=["points"])
    floats = {FIRST: ("fp32", "fp32", "uint8"), "features.2.0": ("uint8", "fp32", "uint8")}
    special = {**floats, "points": STORED, "score": FLOAT}
    assert layers(kept.path) == [special.get(name, STATIC) for name in modules()]
    assert errors(kept)[0] < errors(everything)[0]


@pytest.mark.parametrize("config", [{}, {"keep_float": ["features.3"]}])
def test_a_file_names_the_modules_that_the_float_file_names(config: dict[str, Any], tmp_path: Path) -> None:
    import coremltools as ct

    settings = QUANTIZERS[NAME].configure(config)
    path = tmp_path / "a.mlpackage"
    item = QUANTIZERS[NAME](exported("coreml"), path, inputs(8, 1), net=tiny_net(), config=settings)
    for key in (COREML_KEY, COREML_WEIGHTS_KEY):
        found, wanted = (
            json.loads(ct.models.MLModel(str(file), skip_model_load=True).user_defined_metadata[key])
            for file in (item.path, exported("coreml").path)
        )
        assert Counter(found.values()) == Counter(wanted.values())
    assert [part.module for part in READER.contents(path).operations if part.weights] == list(modules())


class _Residual(nn.Module):
    """A block whose own result is a sum."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.act = nn.Conv2d(8, 8, 3, 1, 1), nn.BatchNorm2d(8), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = x + self.act(self.norm(self.conv(x)))
        return result


def test_layer_by_layer_it_is_what_torch_gives(tmp_path: Path) -> None:
    net = seeded(Chain(nn.Conv2d(3, 8, 3, 2, 1), _Residual(), _Residual(), nn.Conv2d(8, 4, 1)))
    item = made(net, tmp_path)
    assert layers(item.path)[1:] == 3 * [STATIC]
    variant = Variant(
        id="w8a8.coreml",
        format="coreml",
        precision="w8a8",
        files=(),
        inputs=dict(item.inputs),
        outputs=dict(item.outputs),
        tolerances=Tolerances(),
        status="unverified",
    )
    found = localise(net, item.path, variant, {"image": inputs(8, 1)[:1]})
    assert found.status == "agrees"
    assert {part.module for part in found.compared} >= {"parts.0", "parts.1.act", "parts.2.norm", "parts.3"}
    assert max(part.relative for part in found.compared) < 0.05


@pytest.mark.parametrize(
    ("activation", "kind"),
    [(nn.ReLU(), "relu"), (nn.SiLU(), "silu"), (nn.Sigmoid(), "sigmoid"), (nn.LeakyReLU(), "leaky_relu")],
)
def test_an_activation_belongs_to_its_layer(activation: nn.Module, kind: str, tmp_path: Path) -> None:
    net = seeded(Chain(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), activation, nn.Conv2d(8, 4, 1)))
    item = made(net, tmp_path)
    rounded = [op.input.op.op_type for op in mil_operations(item.path) if op.op_type == "quantize"]
    assert rounded == ["conv", kind, "conv"]
    inside = [part for part in READER.contents(item.path).operations if is_layer(part)]
    assert [part.compute for part in inside] == ["float32", "uint8", "uint8"]
    assert off(item, net) < 0.05


class _Padded(nn.Module):
    """Pads as TensorFlow's networks do, with zeros and with something else."""

    output_names = ("map",)

    def __init__(self, value: float) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, 2)
        self.value = value

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.relu6(self.first(x))
        return self.second(nn.functional.pad(x, (0, 1, 0, 1), value=self.value))


@pytest.mark.parametrize("value", [0.0, 7.0])
def test_zeros_are_padded_without_another_rounding(value: float, tmp_path: Path) -> None:
    net = seeded(_Padded(value))
    item = made(net, tmp_path, float_first=False)
    assert layers(item.path)[1] == STATIC
    steps = {round(float(op.scale.val), 9) for op in mil_operations(item.path) if op.op_type == "quantize"}
    # Of the image, the result, and what is padded: 7 is beyond the range of what it is put around.
    assert len(steps) == 3 + (value != 0)
    assert off(item, net) < 0.05


def test_only_what_a_layer_reads_is_rounded(tmp_path: Path) -> None:
    """What is done to the last layer's result is done in float, and so is what stands before the first layer."""

    class Tail(nn.Module):
        output_names = ("map",)

        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x * x + x)
            y = self.second(x * x)
            return (y * y + y).reshape(1, -1)

    net = seeded(Tail())
    found = kinds(made(net, tmp_path, weights_only=["second"]).path)
    assert found.count("quantize") == 2  # both sides of the product between the layers are one; its result
    assert "quantize" not in found[: found.index("conv")]
    assert "quantize" not in found[len(found) - found[::-1].index("conv") :]


def test_a_transposed_convolution_has_a_step_for_each_of_its_outputs(tmp_path: Path) -> None:
    net = seeded(Chain(nn.Conv2d(3, 8, 3, 2, 1), nn.ConvTranspose2d(8, 5, 2, 2), nn.BatchNorm2d(5), nn.ReLU()))
    item = made(net, tmp_path)
    assert layers(item.path)[1] == STATIC
    (operation,) = (op for op in mil_operations(item.path) if op.op_type == "conv_transpose")
    stored = operation.weight.op
    assert (int(stored.axis.val), stored.scale.val.shape) == (1, (5,))
    assert off(item, net) < 0.05


class _Remembering(nn.Module):
    """Unpacks its picture's sides and may do without its mask: torch.fx could not draw it."""

    output_names = ("map",)

    def __init__(self) -> None:
        super().__init__()
        self.first, self.mask, self.last = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(2, 8, 3, 2, 1), nn.Conv2d(16, 4, 1)

    def example_inputs(self, size: int) -> dict[str, Tensor]:
        return {"image": torch.zeros(1, 3, size, size), "previous": torch.zeros(1, 2, size, size)}

    def forward(self, x: Tensor, previous: Tensor | None = None) -> Tensor:
        _, _, height, width = x.shape
        y = self.first(x).relu()
        z = torch.zeros_like(y) if previous is None else self.mask(previous)
        joined = torch.cat([y, z], 1)
        result: Tensor = self.last(nn.functional.interpolate(joined, (height, width), mode="bilinear"))
        return result


def test_a_network_with_a_previous_mask(tmp_path: Path) -> None:
    net, masks = seeded(_Remembering()), np.random.default_rng(0).random((8, 2, SIZE, SIZE)).astype(np.float32)
    item = made(net, tmp_path, with_others(inputs(8, 1), {"previous": masks}))
    assert layers(item.path) == [("fp32", "fp32", "fp32"), ("uint8", "int8", "uint8"), STATIC]
    feed = {"image": inputs(4)[:1], "previous": masks[:1]}
    with torch.no_grad():
        wanted = net(*(torch.from_numpy(value.copy()) for value in feed.values())).numpy()
    found = backend_of(item).run(feed)["map"]
    assert np.abs(found - wanted).max() < 0.05 * np.abs(wanted).max()


def test_pixels_are_prepared_in_float(tmp_path: Path) -> None:
    """In 8 bits they would round the pixels once more. What is left is as with the normalisation outside."""
    settings = QUANTIZERS[NAME].configure({"float_first": False, "weights_only": HEADS})
    mean, std = (np.array(values, np.float32).reshape(1, 3, 1, 1) for values in (MEAN, STD))

    def normalised(count: int, seed: int) -> NDArray[np.float32]:
        return (pixel_inputs(count, seed) - mean) / std

    with torch.no_grad():
        wanted = tiny_net()(torch.from_numpy(normalised(8, 2)))[0].numpy()
    errors = []
    for source, net, images, start in (
        (pixel_exported("coreml"), pixel_net(), pixel_inputs, ["mul", "add", "quantize"]),
        (exported("coreml"), tiny_net(), normalised, ["quantize"]),
    ):
        path = tmp_path / source.path.name
        item = QUANTIZERS[NAME](source, path, images(8, 1), net=net, config=settings)
        assert READER.signature(item.path) == READER.signature(source.path)
        assert kinds(item.path)[: len(start)] == start
        backend = backend_of(item)
        found = np.concatenate([backend.run({"image": image[None]})["points"] for image in images(8, 2)])
        errors.append(float(np.abs(found - wanted).mean()))
    inside, outside = errors
    assert 0 < inside <= 1.1 * outside


def test_the_order_of_colours_stays(tmp_path: Path) -> None:
    import coremltools as ct

    net = pixel_net()
    before = getattr(net, "channels", "RGB")
    net.channels = "BGR"  # type: ignore[assignment]
    try:
        source = EXPORTERS["coreml"].export(net, precision="fp32", path=tmp_path / "a.mlpackage", input_size=SIZE)
        item = QUANTIZERS[NAME](source, tmp_path / "b.mlpackage", pixel_inputs(2), net=net)
    finally:
        net.channels = before  # type: ignore[assignment]
    found = [ct.utils.load_spec(str(one.path)).description.input[0].type.imageType for one in (source, item)]
    assert found[0].colorSpace == found[1].colorSpace


class _Branching(nn.Module):
    """Its course depends on what it sees, which no graph can say."""

    output_names = ("map",)

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.first(x)
        return y if float(y.sum()) > 0 else -y


def test_what_cannot_be_drawn_as_a_graph_fails_as_a_conversion(tmp_path: Path) -> None:
    plain = EXPORTERS["coreml"].export(
        seeded(Chain(nn.Conv2d(3, 8, 1))), precision="fp32", path=tmp_path / "a.mlpackage", input_size=SIZE
    )
    settings = QUANTIZERS[NAME].configure({"weights_only": []})
    with pytest.raises(ConversionError, match=r"quantizing a\.mlpackage with coreml\.w8a8 failed"):
        QUANTIZERS[NAME](plain, tmp_path / "b.mlpackage", inputs(2), net=seeded(_Branching()), config=settings)
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix != ".log") == ["a.mlpackage"]


def test_modules_without_weights_are_refused(tmp_path: Path) -> None:
    for config in ({"keep_float": ["features.1.2"]}, {"weights_only": ["features.1.1"]}):
        settings = QUANTIZERS[NAME].configure(config)
        with pytest.raises(ConfigError, match=r"no module 'features\.1\.\d'.* has weights"):
            QUANTIZERS[NAME](exported("coreml"), tmp_path / "a.mlpackage", inputs(2), net=tiny_net(), config=settings)
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".log"] == []


def test_the_network_stays_as_it_is(tmp_path: Path) -> None:
    net = tiny_net()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    item = QUANTIZERS[NAME](exported("coreml"), tmp_path / "a.mlpackage", inputs(2), net=net)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert READER.contents(item.path).version == "CoreML7 (iOS 17, macOS 14)"
