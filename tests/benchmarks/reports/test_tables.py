"""Figures as text, and the rows of the report's and the terminal's tables."""

from __future__ import annotations

import pytest
from rich.console import Console

from pocketface.benchmarks.reports import tables, text
from pocketface.benchmarks.reports.data import Figures, ReportData
from pocketface.benchmarks.reports.terminal import print_summary

NAN = float("nan")
DASH = "–"  # noqa: RUF001


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        (text.number(1.005, 1), "1.0"),
        (text.number(None), DASH),
        (text.number(NAN), DASH),
        (text.signed(0.0004), "0.000"),
        (text.signed(-0.0004), "0.000"),
        (text.signed(0.02), "+0.020"),
        (text.signed(-1.5, 1), "-1.5"),
        (text.signed(None), DASH),
        (text.error(0), "0"),
        (text.error(3.21e-7), "3.2e-07"),
        (text.error(0.0123), "0.012"),
        (text.error(float("inf")), DASH),
        (text.ms(0.0512), "0.05"),
        (text.ms(12.34), "12.3"),
        (text.ms(123.4), "123"),
        (text.ms(NAN), DASH),
        (text.count(2_220_000), "2.22 M"),
        (text.count(210_000_000, "FLOPs"), "210 M FLOPs"),
        (text.count(12), "12"),
        (text.count(None), DASH),
        (text.bytes_text(None), DASH),
        (text.bytes_text(2_350_000), "2.4 MB"),
    ],
)
def test_figures_as_text(found: str, wanted: str):
    assert found == wanted


def test_change_is_unknown_between_different_sets_of_faces():
    one, other = Figures(faces=4, nme=4.5), Figures(faces=4, nme=4.0)
    assert tables.change(one, other) == pytest.approx(0.5)
    assert tables.change(one, Figures(faces=5, nme=4.0)) is None
    assert tables.change(one, Figures(faces=4, nme=None)) is None
    assert tables.change(Figures(faces=4, nme=NAN), other) is None
    assert tables.change(None, other) is None


@pytest.mark.parametrize(
    "make",
    [
        tables.accuracy,
        tables.networks,
        tables.variants,
        tables.parity,
        tables.latency,
        tables.gates,
        tables.data_sources,
    ],
)
def test_every_row_is_as_long_as_its_head_and_no_data_is_no_rows(make, full: ReportData, bare: ReportData):
    table = make(full)
    assert table
    assert {len(row) for row in table.rows} == {len(table.heads)}
    assert not make(bare)


def test_failed_gates_come_first(full: ReportData):
    assert [row[4].text for row in tables.gates(full).rows] == ["failed", "passed"]


def test_memory_that_was_not_measured_is_a_dash(full: ReportData):
    import msgspec

    variant = full.variants[0].variant
    latency = tuple(msgspec.structs.replace(item, peak_rss_mb=0.0) for item in variant.latency)
    result = msgspec.structs.replace(full.variants[0], variant=msgspec.structs.replace(variant, latency=latency))
    column = tables.latency(full).heads.index("peak MB")
    assert tables.latency(full).rows[0][column].text == "70"
    assert tables.latency(ReportData(title="x", variants=(result,))).rows[0][column].text == DASH


def test_terminal_summary(full: ReportData, bare: ReportData):
    console = Console(width=140, color_system=None)
    with console.capture() as capture:
        print_summary(full, console)
    lines = capture.get().splitlines()
    (line,) = [line for line in lines if "a.w8a8.tflite" in line and "│" in line]
    cells = [cell.strip() for cell in line.strip("│").split("│")]
    assert cells == ["a.w8a8.tflite", "2.4 MB", DASH, "4.326", "+0.326", "3.00", "2.00", "failed"]
    assert any("a.fp32.onnx (default)" in line for line in lines)
    assert lines[-3:] == [
        "1 of 2 gates failed.",
        "  a.w8a8.tflite: max_nme_increase is 0.326, bound 0.05",
        "  a.fp16.coreml is unverified (no macOS here)",
    ]
    with console.capture() as capture:
        print_summary(bare, console)
    assert capture.get() == "No gate was checked.\n"
