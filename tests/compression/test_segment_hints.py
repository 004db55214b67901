"""Hints of a segmentation teacher: by hand, against slow loops and torch, by finite differences."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from pocketface.compression.distill.segment import (
    FeatureHint,
    SegmentHintSpec,
    border_hint,
    border_map,
    class_borders,
    logit_hint,
    segment_hints,
)
from pocketface.sdk.errors import BadInputError, ConfigError


def drawn(seed: int, *shape: int, grad: bool = False) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=grad)


def scene(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Student, teacher (2, 3, 6, 6) and labels (2, 6, 6): three stripes, one ignored corner."""
    labels = torch.arange(6).div(2, rounding_mode="floor").expand(2, 6, 6).clone()
    labels[1, 0, 0] = 255
    return drawn(seed, 2, 3, 6, 6, grad=True), drawn(seed + 1, 2, 3, 6, 6), labels


def test_the_logit_hint_by_hand():
    # Teacher 0.9 / 0.1 and student 0.5 / 0.5 at temperature 1; at 2 the teacher's odds are sqrt(9) = 3.
    teacher = torch.tensor([math.log(9.0), 0.0]).view(1, 2, 1, 1)
    student = torch.zeros(1, 2, 1, 1)
    one = 0.9 * math.log(0.9 / 0.5) + 0.1 * math.log(0.1 / 0.5)
    two = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    assert float(logit_hint(student, teacher, temperature=1)) == pytest.approx(one, rel=1e-5)
    assert float(logit_hint(student, teacher, temperature=2)) == pytest.approx(4 * two, rel=1e-5)
    assert float(logit_hint(teacher, teacher)) == pytest.approx(0, abs=1e-7)


def test_the_logit_hint_is_torchs_divergence_per_pixel():
    student, teacher, _ = scene()
    want = F.kl_div((student / 3).log_softmax(1), (teacher / 3).softmax(1), reduction="sum") * 9 / (2 * 6 * 6)
    torch.testing.assert_close(logit_hint(student, teacher, temperature=3), want)


def test_at_high_temperature_the_gradient_is_that_of_matching_logits():
    # Hinton et al. 2015, eq 4: (z - v) / C for logits of zero mean, T^2 taken in.
    student, teacher = drawn(0, 1, 3, 1, 1), drawn(1, 1, 3, 1, 1)
    student, teacher = student - student.mean(), teacher - teacher.mean()
    student.requires_grad_()
    (gradient,) = torch.autograd.grad(logit_hint(student, teacher, temperature=1e4), student)
    torch.testing.assert_close(
        gradient, (student - teacher).detach() / 3, rtol=0, atol=1e-4
    )  # what is left out falls as 1 / T


@pytest.mark.parametrize("kind", ["logits", "map"])
@pytest.mark.parametrize("of", ["truth", "teacher", "both"])
def test_gradients_agree_with_finite_differences(kind, of):
    student, teacher, labels = scene()
    spec = SegmentHintSpec(logits=1, feature=1, border=0.5, border_kind=kind, border_of=of, band=1)
    hint = FeatureHint(2, 4).double()
    told = {"logits": teacher, "features": drawn(3, 2, 4, 2, 2)}

    def total(logits, feature):
        return segment_hints(spec, {"logits": logits, "features": feature}, told, labels, feature=hint).total

    assert torch.autograd.gradcheck(total, (student, drawn(4, 2, 2, 4, 4, grad=True)))


def test_nothing_goes_into_the_teacher_and_the_regressor_learns():
    student, _, labels = scene()
    told = {"logits": drawn(1, 2, 3, 6, 6, grad=True), "features": drawn(3, 2, 4, 3, 3, grad=True)}
    hint = FeatureHint(2, 4).double()
    spec = SegmentHintSpec(logits=1, feature=1, border=1)
    own = {"logits": student, "features": drawn(4, 2, 2, 3, 3, grad=True)}
    segment_hints(spec, own, told, labels, feature=hint).total.backward()
    assert all(value.grad is None for value in told.values())
    assert all(value.grad is not None and value.grad.any() for value in (*own.values(), hint.regressor.weight))


def test_the_feature_hint_by_hand():
    hint = FeatureHint(1, 2)
    with torch.no_grad():
        hint.regressor.weight.copy_(torch.tensor([2.0, -1.0]).view(2, 1, 1, 1))
        hint.regressor.bias.copy_(torch.tensor([0.0, 1.0]))
    student = torch.tensor([[[[1.0, 3.0]]]])  # -> (2, 6) and (0, -2)
    teacher = torch.tensor([[[[2.0, 5.0]], [[1.0, 0.0]]]])
    assert float(hint(student, teacher).detach()) == pytest.approx(0.5 * (0 + 1 + 1 + 4) / 4)


def test_features_of_other_sizes_are_averaged_over_blocks():
    hint = FeatureHint(3, 2).double()
    fine, coarse = drawn(0, 1, 3, 4, 4), drawn(1, 1, 2, 2, 2)
    blocks = fine.reshape(1, 3, 2, 2, 2, 2).mean(dim=(3, 5))
    torch.testing.assert_close(hint(fine, coarse), hint(blocks, coarse))
    upright = drawn(2, 1, 2, 8, 8)
    torch.testing.assert_close(hint(fine, upright), hint(fine, upright.reshape(1, 2, 4, 2, 4, 2).mean(dim=(3, 5))))


def test_blocks_share_cells_where_sizes_are_no_multiples():
    hint = FeatureHint(1, 1).double()
    fine, coarse = drawn(0, 1, 1, 5, 5), drawn(1, 1, 1, 3, 3)
    blocks = torch.zeros(1, 1, 3, 3, dtype=torch.float64)
    edges = [(0, 2), (1, 4), (3, 5)]  # of cells 0 to 5/3, 5/3 to 10/3 and 10/3 to 5: every cell they touch
    for row, (top, bottom) in enumerate(edges):
        for column, (left, right) in enumerate(edges):
            blocks[0, 0, row, column] = fine[0, 0, top:bottom, left:right].mean()
    torch.testing.assert_close(hint(fine, coarse), hint(blocks, coarse))


@pytest.mark.parametrize("band", [1, 2])
def test_class_borders_are_those_of_a_slow_loop(band):
    labels = torch.randint(0, 2, (1, 9, 11), generator=torch.Generator().manual_seed(1)) * 3
    labels[0, :, 4:] = 3
    labels[0, 2:4, 6:8] = 255
    labels[0, 8, 10] = 1
    want = torch.zeros_like(labels, dtype=torch.bool)
    for y in range(9):
        for x in range(11):
            around = labels[0, max(y - band, 0) : y + band + 1, max(x - band, 0) : x + band + 1]
            others = (around != labels[0, y, x]) & (around != 255)
            want[0, y, x] = bool(others.any()) and int(labels[0, y, x]) != 255
    torch.testing.assert_close(class_borders(labels, band), want)


def test_the_border_hint_is_the_logit_hint_of_the_band_alone():
    student, teacher, labels = scene()
    spec = SegmentHintSpec(border=1, border_of="truth", band=1, temperature=1.5)
    told, own = (teacher / 1.5).softmax(1), (student / 1.5).softmax(1)
    each = (told * (told / own).log()).sum(1) * 1.5**2
    # Stripes of two columns: every column but the outermost touches another class.
    want = each[:, :, 1:5].mean()
    torch.testing.assert_close(border_hint(spec, student, teacher, labels), want)


def test_a_border_map_is_one_at_a_sure_border_and_nothing_inside():
    logits = torch.zeros(1, 2, 5, 6)
    logits[0, 1, :, 3:] = 200
    logits[0, 0, :, :3] = 200
    want = torch.tensor([0.0, 0, 1, 1, 0, 0]).expand(1, 2, 5, 6)
    torch.testing.assert_close(border_map(logits), want)
    spec = SegmentHintSpec(border=1, border_kind="map")
    labels = torch.zeros(1, 5, 6, dtype=torch.long)
    # A flat student misses the two columns of six.
    assert float(border_hint(spec, torch.zeros_like(logits), logits, labels)) == pytest.approx(2 / 6)
    assert float(border_hint(spec, logits, logits, labels)) == 0


def test_terms_come_by_name_and_only_where_they_have_a_weight():
    student, teacher, labels = scene()
    spec = SegmentHintSpec(logits=2.0, border=0.5)
    parts = segment_hints(spec, {"logits": student}, {"logits": teacher}, labels)
    assert list(parts.terms) == ["logits", "border"]
    where = labels != 255
    logits = logit_hint(student, teacher, where=where)
    torch.testing.assert_close(parts.total, 2 * logits + 0.5 * border_hint(spec, student, teacher, labels))
    alone = segment_hints(SegmentHintSpec(), {"logits": student}, {"logits": teacher}, torch.full_like(labels, 255))
    assert float(alone.total.detach()) == 0
    torch.autograd.backward(alone.total)
    assert not student.grad.any()


def test_bad_input_is_refused():
    student, teacher, labels = scene()
    spec = SegmentHintSpec(feature=1.0)
    with pytest.raises(BadInputError, match="the teacher gives no map 'logits'"):
        segment_hints(spec, {"logits": student}, {}, labels)
    with pytest.raises(ConfigError, match="regressor"):
        segment_hints(spec, {"logits": student}, {"logits": teacher}, labels)
    with pytest.raises(BadInputError, match="the student gives no map 'features'"):
        segment_hints(spec, {"logits": student}, {"logits": teacher}, labels, feature=FeatureHint(1, 1))
    with pytest.raises(BadInputError, match="logits of shapes"):
        logit_hint(student, teacher[:, :2])
    with pytest.raises(BadInputError, match="labels of shape"):
        border_hint(spec, student, teacher, labels[:, :2])
    with pytest.raises(BadInputError, match="1 channels of the student"):
        FeatureHint(1, 2)(torch.zeros(1, 2, 3, 3), torch.zeros(1, 2, 3, 3))
    for bad in ({"temperature": 0.0}, {"logits": -1.0}, {"band": 0}):
        with pytest.raises(ConfigError):
            SegmentHintSpec(**bad)
