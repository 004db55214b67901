"""mil-reference on whole networks, as coremltools converts them from torch: every registered kind, and a decoder made
of what the other tasks' networks are made of.
"""

from __future__ import annotations

import numpy as np
import pytest
import tiny_export
import torch
import torch.nn.functional as F

from pocketface.compression.models.registry import MODELS, ModelSpec, build_model
from pocketface.converters.formats.registry import EXPORTERS
from pocketface.converters.mil_reference.reference import MilReference
from pocketface.sdk.manifest import Binding, Tolerances, Variant


def executor(path, inputs, outputs):
    settings = {"id": "fp32.coreml", "format": "coreml", "precision": "fp32", "files": (), "status": "unverified"}
    bindings = {"inputs": dict(inputs), "outputs": dict(outputs)}
    return MilReference(path, Variant(**settings, **bindings, tolerances=Tolerances()))


def error(got, want):
    return np.abs(got - want).max() / np.abs(want).max()


def one_of_each_file():
    """A registered network of each file that defines some: those of one file differ in width and depth alone."""
    return {MODELS[name].__module__: name for name in sorted(MODELS, reverse=True)}.values()


@pytest.mark.slow
@pytest.mark.parametrize("name", one_of_each_file())
def test_registered_networks_use_known_operations_and_agree_with_torch(name, tmp_path):
    net = build_model(ModelSpec(name=name, input_size=32)).eval()
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.ndim > 1:  # values stay near 1 through all layers
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * (2 / parameter[0].numel()) ** 0.5)
    exported = EXPORTERS["coreml"].export(net, precision="fp32", path=tmp_path / "net.mlpackage", input_size=32)
    image = tiny_export.inputs(1, seed=2)
    with torch.no_grad():
        wanted = net(torch.from_numpy(image.copy()))
    got = executor(exported.path, exported.inputs, exported.outputs).run({"image": image})
    for output, value in zip(exported.outputs, wanted, strict=True):
        assert error(got[output], value.numpy()) < 1e-5


class Decoder(torch.nn.Module):
    """What the other tasks' networks are made of: down and up again, dilations, gates, a palette of activations."""

    def __init__(self):
        super().__init__()
        nn = torch.nn
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.PReLU(16))
        self.squeeze, self.excite = nn.Conv2d(16, 4, 1), nn.Conv2d(4, 16, 1)
        self.dilated = nn.ModuleList(nn.Conv2d(16, 8, 3, padding=d, dilation=d) for d in (1, 3, 6))
        self.gates = nn.Conv2d(24 + 16, 4 * 16, 3, padding=1)
        self.norm = nn.GroupNorm(4, 16)
        self.up = nn.ConvTranspose2d(16, 8, 4, 2, 1, groups=2)
        self.out = nn.Conv2d(8, 5, 1)

    def forward(self, x):
        x = self.stem(x)
        x = x * torch.sigmoid(self.excite(F.silu(self.squeeze(F.adaptive_avg_pool2d(x, 1)))))
        deep = F.interpolate(F.hardswish(F.max_pool2d(x, 3, 2, 1)), x.shape[-2:], mode="bilinear", align_corners=False)
        wide = torch.cat([conv(deep) for conv in self.dilated], 1)
        i, f, o, g = self.gates(torch.cat([wide, x], 1)).chunk(4, 1)  # a ConvLSTM's step
        state = torch.sigmoid(f) * x + torch.sigmoid(i) * torch.tanh(g)
        y = self.norm(torch.sigmoid(o) * torch.tanh(state) + F.interpolate(F.avg_pool2d(x, 2), scale_factor=2))
        mask = self.out(F.gelu(self.up(y)))
        heat = mask.flatten(2).softmax(-1).view(mask.shape)
        rows = torch.linspace(-0.5, 0.5, heat.shape[2])
        return mask.softmax(1), torch.stack([(heat.sum(2) * rows).sum(-1), (heat.sum(3) * rows).sum(-1)], -1)


@pytest.mark.parametrize(("precision", "bound"), [("fp32", 1e-5), ("fp16", 5e-3)])
def test_a_decoder_agrees_with_torch(precision, bound, tmp_path):
    import coremltools as ct

    torch.manual_seed(9)
    net, image = Decoder().eval(), tiny_export.inputs(1, seed=10)
    with torch.no_grad():
        wanted = net(torch.from_numpy(image.copy()))
    model = ct.convert(
        torch.export.export(net, (torch.from_numpy(image.copy()),)).run_decompositions({}),
        inputs=[ct.TensorType(name="image", shape=image.shape)],
        outputs=[ct.TensorType(name="mask"), ct.TensorType(name="points")],
        minimum_deployment_target=ct.target.iOS15,
        compute_precision=ct.precision.FLOAT32 if precision == "fp32" else ct.precision.FLOAT16,
        skip_model_load=True,
    )
    model.save(str(tmp_path / "net.mlpackage"))
    outputs = {
        name: Binding(tensor=name, shape=tuple(value.shape))
        for name, value in zip(("mask", "points"), wanted, strict=True)
    }
    bindings = {"image": Binding(tensor="image", shape=image.shape)}
    got = executor(tmp_path / "net.mlpackage", bindings, outputs).run({"image": image})
    for name, value in zip(outputs, wanted, strict=True):
        assert error(got[name], value.numpy()) < bound
