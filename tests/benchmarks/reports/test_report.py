"""The HTML report, read back by a parser: what it says, that it is well formed, and that it loads nothing."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from pocketface.benchmarks.reports.data import Figures, Gate, Network, ReportData, VariantResult
from pocketface.benchmarks.reports.report import SECTIONS, render, tiles, verdict, write_report
from pocketface.sdk.errors import BadInputError, MissingExtraError

VOID = {"meta", "img", "br", "link", "input", "hr"}
LOADING = {"src", "href", "xlink:href", "srcset", "poster", "data", "action", "background"}


class Page(HTMLParser):
    """Attributes, ids, text and tables of a page; complains about tags that do not match."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.ids: list[str] = []
        self.texts: list[str] = []
        self.rows: list[list[str]] = []
        self.sections: dict[str, list[str]] = {}
        self.section = ""
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.tags.append((tag, values))
        if values.get("id"):
            self.ids.append(str(values["id"]))
        if tag == "section":
            self.section = str(values["id"])
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "style":
            return
        self.texts.append(data)
        self.sections.setdefault(self.section, []).append(data)
        if self.rows and {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data.strip()


@pytest.fixture(scope="module")
def source(full: ReportData) -> str:
    return render(full)


@pytest.fixture(scope="module")
def page(source: str) -> Page:
    return Page(source)


def test_tags_match_and_ids_are_unique(page: Page):
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))


def test_nothing_is_loaded_from_anywhere(page: Page, source: str):
    assert not {"script", "link", "iframe", "object", "embed", "base"} & {tag for tag, _ in page.tags}
    for tag, values in page.tags:
        for name in LOADING & set(values):
            target = values[name] or ""
            assert target.startswith(("#", "data:image/png;base64,")), (tag, name, target)
            if target.startswith("#"):
                assert target[1:] in page.ids, f"{target} leads nowhere"
    assert all(target.startswith("#") and target[1:] in page.ids for target in re.findall(r"url\(([^)]*)\)", source))
    assert "@import" not in source
    policy = [values["content"] for tag, values in page.tags if tag == "meta" and "http-equiv" in values]
    assert policy == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]


def test_names_are_escaped_everywhere(page: Page, source: str):
    """In text, in attributes, and inside the drawings, where matplotlib must not read a formula either."""
    assert "<b>" not in source
    nasty = "<b>&\"'$x_1$"
    assert f"A run {nasty}" in "".join(page.texts)
    # Its row, its curve's legend, and the curve's tooltip.
    assert page.sections["accuracy"].count(f"teacher {nasty}") == 3
    assert any(values.get("alt") == f"helen/1 {nasty}" for tag, values in page.tags if tag == "img")


def test_colours_of_the_drawings_are_the_pages(source: str):
    drawings = "".join(re.findall(r"<svg.*?</svg>", source, re.DOTALL))
    assert drawings.count("<svg") == 7
    defined = set(re.findall(r"--(\w+):", source))
    assert set(re.findall(r"var\(--(\w+)\)", source)) <= defined
    # A fixed colour would be unreadable on either the light or the dark page.
    assert not re.findall(r"#[0-9a-f]{6}\b", drawings)


def test_tables_hold_the_figures(page: Page):
    assert ["a.fp32.onnx", "9.4 MB", "100%", "4.000", "0.000", "4.00", "2.50", "passed"] in page.rows
    # 2.35 of 9.4 MB, but of another format: no share of fp32.
    assert ["a.w8a8.tflite", "2.4 MB", "–", "4.326", "+0.326", "3.00", "2.00", "failed"] in page.rows  # noqa: RUF001
    assert ["student", "student, torch fp32", "4.000", "–", "3.500", "25.00", "12.50", "0.6000", "4"] in page.rows  # noqa: RUF001
    wanted = [
        "a.w8a8.tflite",
        "runtime 1.0",
        "64",
        "0.020",
        "1.0e-03",
        "1.840",
        "0.210",
        "+0.326",
        "NME +0.05",
        "failed",
    ]
    assert wanted in page.rows
    text = "".join(page.texts)
    assert "1 of 2 gates failed." in text
    assert "a.w8a8.tflite: max_nme_increase is 0.326, bound 0.05" in text
    assert "a.fp16.coreml is unverified (no macOS here)" in text
    assert "# café\nname: <x>" in text
    assert "Left out" not in text


def test_faces_are_the_bytes_given(full: ReportData, page: Page):
    found = [str(values["src"]).partition(",")[2] for tag, values in page.tags if tag == "img"]
    assert [base64.b64decode(data) for data in found] == [shot.png for shot in full.faces]


def test_a_report_of_nothing_says_what_is_missing_in_every_section(bare: ReportData):
    page = Page(render(bare))
    assert set(page.sections) >= {id for id, _ in SECTIONS}
    for id, _ in SECTIONS:
        assert "Left out: " in "".join(page.sections[id]), id
    assert not [tag for tag, _ in page.tags if tag in ("svg", "img", "table")]


def test_figures_that_are_no_numbers_do_not_stop_it(full: ReportData):
    nan = float("nan")
    (first, *_) = full.variants
    broken = VariantResult(variant=first.variant, accuracy=Figures(faces=4, nme=nan, auc=nan), errors=(nan, 0.01))
    data = ReportData(
        title="x",
        networks=(Network(name="t", role="teacher", accuracy=Figures(faces=4, nme=nan), errors=(nan,)),),
        variants=(broken,),
        gates=(Gate(gate="max_nme_increase", variant="a.fp32.onnx", figure=nan, bound=0.6, passed=False),),
    )
    text = "".join(Page(render(data)).texts)
    assert "max_nme_increase is no number, bound 0.6" in text
    assert not re.search(r"\b(nan|inf|None)\b", text)


def test_it_is_small(source: str):
    assert len(source) < 400_000


def test_it_is_written_whole_the_same_each_time_and_never_over_another(bare: ReportData, tmp_path: Path):
    out = write_report(bare, tmp_path / "new" / "report.html")
    assert out.read_text(encoding="utf-8") == render(bare)
    with pytest.raises(BadInputError, match="--force"):
        write_report(bare, out)
    write_report(bare, out, force=True)
    assert [path.name for path in out.parent.iterdir()] == ["report.html"]


def test_without_jinja_the_extra_is_named(bare: ReportData, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, "jinja2", None)
    with pytest.raises(MissingExtraError, match=r"pocketface\[bench\]"):
        render(bare)


def gate(passed: bool | None, variant: str = "v") -> Gate:
    return Gate(gate="g", variant=variant, figure=1.0, bound=2.0, passed=passed, note="why")


@pytest.mark.parametrize(
    ("gates", "tone", "text"),
    [
        ((), "warn", "No gate was checked."),
        ((gate(True), gate(True)), "good", "All 2 gates passed."),
        ((gate(True), gate(None)), "warn", "1 of 2 gates passed, none failed."),
        ((gate(None),), "warn", "0 of 1 gates passed, none failed."),
        ((gate(True), gate(False), gate(None)), "bad", "1 of 3 gates failed."),
    ],
)
def test_verdict(gates: tuple[Gate, ...], tone: str, text: str):
    found = verdict(ReportData(title="x", gates=gates))
    assert (found.tone, found.text) == (tone, text)
    assert len(found.lines) == sum(one.passed is not True for one in gates)


def test_a_gate_without_a_bound_fails_for_its_reason():
    coreml = Gate(gate="parity", variant="fp32.coreml", figure=None, bound=None, passed=False, note="no executor here")
    assert verdict(ReportData(title="x", gates=(coreml,))).lines == ("fp32.coreml: parity failed (no executor here)",)


def test_an_unverified_variant_never_looks_like_a_pass(full: ReportData):
    coreml = full.variants[2]
    found = verdict(ReportData(title="x", gates=(gate(True),), variants=(coreml,)))
    assert (found.tone, len(found.lines)) == ("warn", 1)
    # Its own unchecked gate has said so already: not twice.
    found = verdict(ReportData(title="x", gates=(gate(None, "a.fp16.coreml"),), variants=(coreml,)))
    assert len(found.lines) == 1


def test_headline_speaks_of_the_default_variant_and_the_best_teacher(full: ReportData):
    found = {tile.label: (tile.value, tile.unit) for tile in tiles(full)}
    assert found == {
        "NME, shipped model": ("4.00", "%"),
        "Size": ("9.4 MB", ""),
        "Latency, p50": ("4.00", "ms"),
        "Parameters": ("2.22 M", ""),
        "Best teacher": ("3.25", "%"),
    }
    student = ReportData(title="x", networks=full.networks)
    assert [tile.label for tile in tiles(student)] == ["NME, student", "Parameters", "Best teacher"]
