"""The drawings: measured in the SVG itself."""

from __future__ import annotations

import re
import sys
import xml.etree.ElementTree as ET

import matplotlib as mpl
import pytest

from pocketface.benchmarks.reports import charts
from pocketface.benchmarks.reports.data import Epoch, Network, ReportData, VariantResult
from pocketface.sdk.errors import MissingExtraError
from pocketface.sdk.manifest import FORMATS, PRECISIONS

ALL = [
    charts.networks_ced,
    charts.variants_ced,
    charts.training_loss,
    charts.validation_nme,
    charts.latency_bars,
    charts.trade_off,
    charts.reliability,
]


def marks(svg: str) -> dict[str, list[tuple[float, float]]]:
    """Tooltip -> corners of the mark's first path."""
    svg = svg.replace("xlink:href", "href")
    found = {}
    for group in ET.fromstring(svg).iter("g"):
        title, path = group.find("title"), group.find(".//path")
        if title is not None and path is not None:
            numbers = [float(value) for value in re.findall(r"-?\d+\.?\d*", path.attrib["d"])]
            found[str(title.text)] = list(zip(numbers[0::2], numbers[1::2], strict=True))
    return found


def width(corners: list[tuple[float, float]]) -> float:
    return max(x for x, _ in corners) - min(x for x, _ in corners)


@pytest.mark.parametrize("draw", ALL, ids=lambda draw: draw.__name__)
def test_no_data_no_chart(draw, bare: ReportData):
    assert draw(bare) == ""


def test_ced_heights_are_shares_and_a_face_without_a_figure_does_not_count_as_good():
    networks = tuple(
        Network(name=name, role="baseline", errors=errors)
        for name, errors in (("all", (0.01, 0.02)), ("half", (0.01, None)), ("late", (0.01, 0.3)))
    )
    found = marks(charts.networks_ced(ReportData(title="x", networks=networks)))
    bottom, top = max(y for _, y in found["all"]), min(y for _, y in found["all"])  # no face, and all of them
    for name in ("half", "late"):
        assert min(y for _, y in found[name]) == pytest.approx((bottom + top) / 2, abs=0.01)
        assert max(y for _, y in found[name]) == pytest.approx(bottom, abs=0.01)


def test_bars_are_as_long_as_their_times(full: ReportData):
    found = marks(charts.latency_bars(full))
    lengths = {tip.split(":")[0]: width(corners) for tip, corners in found.items()}
    unit = lengths["a.fp32.onnx, 1 thread"] / 4.0
    assert lengths == pytest.approx(
        {
            "a.fp32.onnx, 1 thread": 4.0 * unit,
            "a.fp32.onnx, 2 threads": 2.5 * unit,
            "a.w8a8.tflite, 1 thread": 3.0 * unit,
            "a.w8a8.tflite, 2 threads": 2.0 * unit,
        },
        rel=1e-3,
    )
    assert "a.fp32.onnx, 1 thread: p50 4.00, p90 6.00, p99 8.00 ms" in found


def test_trade_off_shows_measured_variants_and_falls_back_to_size(full: ReportData):
    svg = charts.trade_off(full)
    tips = re.findall(r"<title>(.*?)</title>", svg)
    assert sorted(tips) == [
        "a.fp32.onnx: NME 4.000 %, 9.4 MB, p50 4.00 ms",
        "a.w8a8.tflite: NME 4.326 %, 2.4 MB, p50 3.00 ms",
    ]
    from msgspec.structs import replace

    untimed = [VariantResult(variant=replace(v.variant, latency=()), accuracy=v.accuracy) for v in full.variants]
    svg = charts.trade_off(ReportData(title="x", variants=tuple(untimed)))
    assert "file size, MB" in svg
    assert "p50" not in svg


def test_training_curves_mark_the_best_epoch_and_leave_out_what_is_no_number(full: ReportData):
    assert "student: best 4.250 % in epoch 2" in charts.validation_nme(full)
    assert "student: last 0.5" in charts.training_loss(full)
    history = tuple(Epoch(epoch=i, train_loss=float("nan")) for i in (1, 2))
    lost = ReportData(title="x", networks=(Network(name="n", role="student", history=history),))
    assert charts.training_loss(lost) == ""


def test_every_format_and_precision_can_be_drawn():
    assert set(charts._DASHES) == set(charts._MARKERS) == set(FORMATS)
    assert {*charts._PRECISIONS, "mixed"} == set(PRECISIONS)


def test_the_users_own_matplotlib_settings_neither_matter_nor_change(full: ReportData):
    plain = charts.reliability(full)
    before = dict(mpl.rcParams)
    with mpl.rc_context({"font.size": 31, "axes.facecolor": "red", "svg.fonttype": "path"}):
        assert charts.reliability(full) == plain
        assert mpl.rcParams["font.size"] == 31
    assert dict(mpl.rcParams) == before


def test_without_matplotlib_the_extra_is_named(full: ReportData, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"pocketface\[bench\]"):
        charts.validation_nme(full)
