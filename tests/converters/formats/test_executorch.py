"""What ExecuTorch's exporter asks of the delegate, seen through executorch's own deserializers."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from executorch_files import deserialized, method
from tiny_export import SIZE, exported, pixel_exported, pixel_inputs, pixel_net
from torch import Tensor, nn

from pocketface.converters.formats import executorch as module
from pocketface.converters.formats.registry import EXPORTERS
from pocketface.sdk.errors import MissingExtraError

pytestmark = pytest.mark.slow


def test_the_whole_network_is_one_delegate() -> None:
    """The mean and the squeeze of the heads too."""
    program, graphs = deserialized(exported("executorch").path)
    (plan,) = program.execution_plan
    assert plan.operators == []
    assert [delegate.id for delegate in plan.delegates] == ["XnnpackBackend"]
    kinds = [node["xnode_union_type"] for node in graphs[0]["xnodes"]]
    assert kinds.count("XNNGlobalAvgPooling2d") == 1
    assert graphs[0]["num_externs"] == 3  # nothing but the image, the points and the score crosses its border


def test_in_half_precision_only_casts_stand_outside() -> None:
    program, graphs = deserialized(exported("executorch", "fp16").path)
    (plan,) = program.execution_plan
    assert {operator.name for operator in plan.operators} == {"dim_order_ops::_to_dim_order_copy"}
    tensors = [value["xvalue_union"] for value in graphs[0]["xvalues"]]
    assert {tensor["datatype"] for tensor in tensors} == {"xnn_datatype_fp16"}  # weights of convolutions too


@pytest.mark.parametrize(("precision", "bound"), [("fp32", 1e-5), ("fp16", 4e-3)])
def test_pixels_are_normalised_inside(precision: str, bound: float) -> None:
    item = pixel_exported("executorch", precision)
    for image in pixel_inputs(3):
        points, _ = method(item.path)(image[None])
        with torch.no_grad():
            expected = pixel_net()(torch.from_numpy(image[None].copy()))[0].numpy()
        assert np.abs(points - expected).max() < bound


class _Shapes(nn.Module):
    """Axes counted from the back, dropped, kept and added."""

    output_names = ("means", "back", "same")

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y = self.conv(x)
        return y.mean((-1, -2)), y.mean(1, keepdim=True).squeeze((1, 0)).unsqueeze(0).unsqueeze(-2), y.squeeze(1)


def test_rewritten_shapes_compute_the_same(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = _Shapes().eval()
    item = EXPORTERS["executorch"].export(net, precision="fp32", path=tmp_path / "a.pte", input_size=SIZE)
    image = np.random.default_rng(0).normal(size=(1, 3, SIZE, SIZE)).astype(np.float32)
    with torch.no_grad():
        expected = net(torch.from_numpy(image))
    for found, value in zip(method(item.path)(image), expected, strict=True):
        assert found.shape == value.shape
        np.testing.assert_allclose(found, value.numpy(), atol=1e-5)


def test_nothing_of_executorch_stays_changed(tmp_path: Path, capfd: Any) -> None:
    from executorch.backends.xnnpack.operators.node_visitor import NodeVisitor

    before = NodeVisitor.define_tensor, logging.root.handlers[:], logging.root.level
    net = _Shapes().eval()
    EXPORTERS["executorch"].export(net, precision="fp16", path=tmp_path / "a.pte", input_size=SIZE)
    assert (NodeVisitor.define_tensor, logging.root.handlers[:], logging.root.level) == before
    assert {value.dtype for value in net.state_dict().values()} == {torch.float32}
    assert capfd.readouterr() == ("", "")


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pocketface\[executorch\]"):
        EXPORTERS["executorch"].export(_Shapes().eval(), precision="fp16", path=tmp_path / "a.pte", input_size=SIZE)
    assert list(tmp_path.iterdir()) == []
