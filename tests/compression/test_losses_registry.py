"""Every registered loss keeps the one interface; a new loss is tested by being registered."""

import subprocess
import sys

import msgspec
import pytest
import torch

from pocketface.compression.distill.kd import kd_loss, single_teacher_loss
from pocketface.compression.losses.registry import LOSSES, TEACHERS, Loss, LossSpec, build_loss
from pocketface.sdk.errors import BadInputError, ConfigError, UnknownNameError


@pytest.fixture
def points():
    generator = torch.Generator().manual_seed(0)
    names = ("pred", "truth", "tough", "tolerant")
    return {name: torch.rand(3, 68, 2, generator=generator) - 0.5 for name in names}


def test_the_papers_losses_are_there():
    assert {"l1", "l2", "smooth_l1", "kd", "assist_tough", "assist_tolerant"} <= set(LOSSES)


@pytest.mark.parametrize("name", LOSSES)
class TestEveryLoss:
    def test_is_elementwise(self, name, points):
        """One loss a coordinate: a change of one prediction changes that element and no other."""
        loss = build_loss(LossSpec(name=name))
        before = loss(**points)
        assert before.shape == (3, 68, 2)
        assert before.dtype == torch.float32
        points["pred"] = points["pred"].clone()
        points["pred"][1, 5, 0] = 2.0
        changed = loss(**points) != before
        assert changed.sum() == 1
        assert changed[1, 5, 0]

    def test_is_zero_at_the_truth(self, name, points):
        points["pred"] = points["truth"]
        assert build_loss(LossSpec(name=name))(**points).abs().max() == 0

    def test_is_never_negative_with_the_defaults(self, name, points):
        for share in (0.01, 0.1, 0.3, 1.0):
            points["pred"] = points["truth"] + share * (points["tough"] - points["truth"])
            assert build_loss(LossSpec(name=name))(**points).min() >= -1e-6

    def test_gradients_are_finite_and_reach_only_the_prediction(self, name, points):
        points["tough"][:, ::2] = points["truth"][:, ::2]
        points["pred"][:, ::3] = points["truth"][:, ::3]
        for tensor in points.values():
            tensor.requires_grad_()
        build_loss(LossSpec(name=name))(**points).mean().backward()
        assert torch.isfinite(points["pred"].grad).all()
        assert points["pred"].grad.abs().max() > 0
        assert points["tough"].grad is None
        assert points["tolerant"].grad is None

    def test_needs_what_it_says_and_looks_at_nothing_else(self, name, points):
        loss = build_loss(LossSpec(name=name))
        assert isinstance(loss.needs, frozenset)
        assert loss.needs <= set(TEACHERS)
        full = loss(points["pred"], points["truth"], points["tough"], points["tolerant"])
        for teacher in TEACHERS:
            without = {**points, teacher: None}
            if teacher in loss.needs:
                with pytest.raises(BadInputError, match=f"{name!r} got no points of the teacher {teacher}"):
                    loss(**without)
            else:
                assert torch.equal(loss(**without), full)

    def test_survives_a_recipe(self, name):
        spec = LossSpec(name=name, phi=2.0)
        assert msgspec.json.decode(msgspec.json.encode(spec), type=LossSpec) == spec
        assert build_loss(spec).spec == spec

    def test_refuses_another_scheme(self, name, points):
        with pytest.raises(BadInputError, match="has shape"):
            build_loss(LossSpec(name=name))(**{**points, "truth": points["truth"][:, :67]})


@pytest.mark.parametrize(
    ("name", "error", "expected"),
    [
        ("l1", -0.3, 0.3),
        ("l2", -0.3, 0.09),
        ("smooth_l1", 0.004, 0.0008),  # 0.5 * 0.004^2 / 0.01
        ("smooth_l1", 0.01, 0.005),
        ("smooth_l1", -0.1, 0.095),  # 0.1 - 0.5 * 0.01
    ],
)
def test_plain_losses_by_hand(name, error, expected):
    truth = torch.full((1, 1, 2), 0.1, dtype=torch.float64)
    assert build_loss(LossSpec(name=name))(truth + error, truth)[0, 0, 0].item() == pytest.approx(expected)


def test_parameters_reach_the_loss(points):
    pred, truth, tough, tolerant = points.values()
    for phi, sigma in ((2.0, 0.4), (2.5, 0.3)):
        kd, tou, tol = (
            build_loss(LossSpec(name=n, phi=phi, sigma=sigma)) for n in ("kd", "assist_tough", "assist_tolerant")
        )
        assert torch.equal(kd(**points), kd_loss(pred, truth, tough, tolerant, phi=phi, sigma=sigma))
        assert torch.equal(tou(**points), single_teacher_loss(pred, truth, tough, phi=phi, sigma=sigma))
        assert torch.equal(tol(**points), single_teacher_loss(pred, truth, tolerant, phi=phi, sigma=sigma))
    wide = build_loss(LossSpec(name="smooth_l1", beta=2.0))
    torch.testing.assert_close(wide(pred, truth), (pred - truth) ** 2 / 4)


def test_a_stranger_adds_a_loss(points, tmp_path, monkeypatch):
    (tmp_path / "strangers_loss.py").write_text(
        "from pocketface.compression.losses.registry import Loss\n"
        "def build(spec):\n"
        "    return Loss(spec, lambda pred, truth: (pred - truth).abs() ** 3)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    LOSSES.register("cubic", "strangers_loss:build")
    try:
        loss = build_loss(LossSpec(name="cubic"))
        torch.testing.assert_close(loss(**points), (points["pred"] - points["truth"]).abs() ** 3)
    finally:
        LOSSES.unregister("cubic")
    with pytest.raises(UnknownNameError):
        LossSpec(name="cubic")


def test_unknown_name_names_the_nearest_and_the_way_to_add_one():
    with pytest.raises(UnknownNameError, match=r"'smoth_l1' \(did you mean 'smooth_l1'\?\).*pocketface\.losses"):
        LossSpec(name="smoth_l1")


def test_unknown_key_is_refused():
    with pytest.raises(msgspec.ValidationError, match="phy"):
        msgspec.convert({"name": "kd", "phy": 2.0}, LossSpec)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("phi", 0.0),
        ("phi", float("nan")),
        ("phi", float("inf")),
        ("sigma", 0.0),
        ("sigma", 0.6),
        ("sigma", float("nan")),
        ("beta", 0.0),
        ("beta", -0.01),
    ],
)
def test_parameters_out_of_range(key, value):
    with pytest.raises(ConfigError, match=f"loss 'kd': {key} is"):
        LossSpec(name="kd", **{key: value})


def test_a_loss_needs_only_teachers_there_are():
    with pytest.raises(ConfigError, match=r"grandmother.*tough, tolerant"):
        Loss(LossSpec(name="l1"), lambda pred, truth: pred, needs=("grandmother",))


def test_listing_and_configuring_import_no_torch():
    code = (
        "import sys; from pocketface.compression.losses.registry import LOSSES, LossSpec;"
        "list(LOSSES); LossSpec(name='kd'); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
