"""Sections of tables as Markdown and as HTML; sheets of pictures."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from pocketface.benchmarks.reports.sections import Section, section_markdown, sections_html
from pocketface.benchmarks.reports.sheet import HEADER, contact_sheet
from pocketface.benchmarks.reports.text import DASH
from pocketface.sdk.errors import BadInputError

SECTION = Section(
    "Under <light>",
    "NME in percent.",
    [{"row": "LE", "NME": 4.0, "faces": 3}, {"row": "a|b", "NME": None, "MB": 0.12345}],
    {"MB": 3},
    ("A beats B.",),
)


def test_a_section_as_markdown():
    assert section_markdown(SECTION) == (
        "## Under <light>\n\nNME in percent.\n\n"
        "| row | NME | faces | MB |\n| --- | ---: | ---: | ---: |\n"
        f"| LE | 4.00 | 3 | {DASH} |\n| a\\|b | {DASH} | {DASH} | 0.123 |\n\n- A beats B.\n"
    )


def test_sections_as_html():
    text = sections_html(
        "A & B", [SECTION], summary="All held.", facts={"seed": "0"}, pictures={"a face": b"png"}, recipe="name: x\n"
    )
    assert "<h1>A &amp; B</h1>" in text
    assert "Under &lt;light&gt;" in text
    assert '<td class="num">0.123</td>' in text
    assert "<li>A beats B.</li>" in text
    assert "data:image/png;base64,cG5n" in text
    assert "<pre>name: x" in text
    assert "://" not in text, "it loads nothing"


def test_a_sheet_has_a_column_a_kind_and_a_row_a_subject():
    dark, bright = np.zeros((2, 4, 4, 3), np.float32), np.full((2, 4, 4, 3), 1.5, np.float32)
    sheet = np.asarray(Image.open(io.BytesIO(contact_sheet({"a": dark, "b": bright}, size=32))).convert("RGB"))
    assert sheet.shape == (HEADER + 64, 64, 3)
    assert (sheet[HEADER:, :32] == 0).all()
    assert (sheet[HEADER:, 32:] >= 254).all()  # as near as the palette has it


@pytest.mark.parametrize(
    "columns", [{}, {"a": np.zeros((0, 4, 4, 3))}, {"a": np.zeros((1, 4, 4, 3)), "b": np.zeros((2, 4, 4, 3))}]
)
def test_a_sheet_without_pictures_is_refused(columns):
    with pytest.raises(BadInputError, match="columns of"):
        contact_sheet(columns)
