"""docs/support.md holds every row there should be, none of them stale; a few are run again."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pocketface.compression.models.registry import SEGMENT_MODELS, build_network
from pocketface.compression.support import hashes
from pocketface.compression.support.cases import N_CLASSES, Case, absent, cases, every_format
from pocketface.compression.support.page import render, write_table
from pocketface.compression.support.table import (
    Row,
    Table,
    make_table,
    read_table,
    rows,
    spot_checks,
    stale,
    wanted_keys,
)
from pocketface.compression.trial import Trial
from pocketface.compression.variants import check_settings
from pocketface.sdk.errors import BadInputError
from pocketface.sdk.manifest import PRECISIONS

PAGE = Path(__file__).parents[2] / "docs" / "support.md"


@pytest.fixture(scope="module")
def table() -> Table:
    return read_table(PAGE.with_suffix(".json"))


def test_no_row_is_missing_or_stale(table: Table) -> None:
    assert stale(table) == [], "run make support"


def test_the_page_is_what_the_figures_give(table: Table) -> None:
    assert PAGE.read_text() == render(table)


def test_every_row_is_verified_or_says_why_not(table: Table) -> None:
    for row in table.rows:
        assert (row.trial.status == "verified") == (row.trial.reason == ""), row
        assert row.trial.status != "verified" or row.trial.executor, row


def test_every_fp32_row_keeps_the_bound_in_every_format(table: Table) -> None:
    fp32 = [row.trial for row in table.rows if row.trial.precision == "fp32"]
    assert {trial.format for trial in fp32} == set(every_format())
    for trial in fp32:
        assert trial.status == "verified", trial
        assert trial.error is not None
        assert trial.error <= 1e-5


def test_a_combination_is_a_row_or_absent_with_a_reason() -> None:
    present = {(format, precision) for *_, format, precision in wanted_keys()}
    missing = {(format, precision) for format, precision, reason in absent() if reason}
    assert present | missing == {(format, precision) for format in every_format() for precision in PRECISIONS}
    assert not present & missing


def test_every_network_of_masks_is_a_case_and_two_see_a_previous_mask() -> None:
    masks = [case for case in cases() if case.network in SEGMENT_MODELS]
    assert {case.network for case in masks if case.input == "normalised"} == set(SEGMENT_MODELS)
    remembering = [case for case in masks if case.input == "previous"]
    assert {case.network for case in remembering} == {"hourglass", "mobile_segment"}
    for case in remembering:
        net: Any = build_network(case.spec, n_classes=N_CLASSES)
        assert net.previous
        check_settings({}, case.quantize)


def test_a_mask_row_depends_on_its_network_its_options_and_its_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    def changed(case: Case, module: str) -> bool:
        before = hashes.row_hash(case, "onnx", "w8")
        original = hashes._source_hash
        with monkeypatch.context() as patch:
            patch.setattr(hashes, "_source_hash", lambda name: "x" if name.endswith(module) else original(name))
            return hashes.row_hash(case, "onnx", "w8") != before

    parts = {
        "hourglass": ("models.hourglass", "models.segment_blocks", "models.mobilenetv2", "quantize.inputs"),
        "unet": ("models.unet", "models.segment_blocks", "models.trunks", "models.efficientnet_lite"),
        "mobile_segment": ("models.mobile_segment", "models.trunks", "models.efficientnet_lite"),
        "hair_two_stage": ("models.hair_two_stage", "models.hair_prior", "models.trunks"),
    }
    assert set(parts) == set(SEGMENT_MODELS)
    for name, modules in parts.items():
        assert all(changed(Case(network=name), module) for module in modules), name
        assert not changed(Case(network=name), "models.acdc")
    assert not changed(Case(network="mobilenetv2"), "models.segment_blocks")

    def all_hashes() -> list[str]:
        hourglass = [Case(network="hourglass"), Case(network="hourglass", input="previous")]
        return [hashes.row_hash(case, "onnx", precision) for case in hourglass for precision in ("fp32", "w8")]

    def which(name: str, value: dict[str, Any]) -> list[bool]:
        before = all_hashes()
        with monkeypatch.context() as patch:
            patch.setattr(f"pocketface.compression.support.cases.{name}", value)
            return [now != then for now, then in zip(all_hashes(), before, strict=True)]

    assert len(set(all_hashes())) == 4
    assert which("WITH_PREVIOUS", {"hourglass": {"stem": 4}}) == [False, False, True, True]
    assert which("STORED", {"hourglass": {"min_elements": 9}}) == [False, True, False, True]


def test_the_page_names_previous_masks_and_the_settings_they_were_tried_with() -> None:
    page = render(_table(Case(network="hourglass", input="previous")))
    assert "| hourglass (previous mask in) | onnx | yes" in page
    assert "`hourglass` with a previous mask has `options: {stem: 2, previous: true}`" in page
    assert "weights of `hourglass` are rounded with `{min_elements: 256}`" in page


CHECKED_AGAIN = 3


@pytest.mark.slow
@pytest.mark.parametrize("number", range(CHECKED_AGAIN))
def test_rows_come_out_as_stored(table: Table, number: int) -> None:
    """Those of the smallest hashes: nobody chose them, and every change of the code moves them."""
    stored = spot_checks(table, CHECKED_AGAIN)[number]
    case = Case(network=stored.network, head=stored.head, input=stored.input)
    (found,) = rows(case, {stored.trial.format: (stored.trial.precision,)})
    assert found.key == stored.key
    assert found.hash == stored.hash
    assert (found.trial.status, found.trial.executor) == (stored.trial.status, stored.trial.executor)
    assert found.trial.bytes == pytest.approx(stored.trial.bytes, rel=0.01)
    if stored.trial.sqnr is not None:
        assert found.trial.sqnr == pytest.approx(stored.trial.sqnr, abs=6)  # another processor rounds otherwise


def test_hashes_follow_code_and_not_comments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = tmp_path / "some_code.py"
    monkeypatch.syspath_prepend(tmp_path)

    def hashed(text: str) -> str:
        module.write_text(textwrap.dedent(text))
        hashes._source.cache_clear()
        hashes._source_hash.cache_clear()
        return hashes._source_hash("some_code")

    first = hashed('"""A."""\ndef f(x):\n    """B."""\n    return x + 1\n')
    assert hashed('"""Other."""\n\n# why\ndef f(x):\n    return  x + 1\n') == first
    assert hashed('"""A."""\ndef f(x):\n    """B."""\n    return x + 2\n') != first
    hashes._source.cache_clear()
    hashes._source_hash.cache_clear()


def test_a_row_depends_on_its_network_exporter_and_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    case = cases()[0]
    every = {(f, p): hashes.row_hash(case, f, p) for f, known in every_format().items() for p in known}
    assert len(set(every.values())) == len(every)
    original = hashes._source_hash

    def changed(*names: str) -> set[tuple[str, str]]:
        monkeypatch.setattr(hashes, "_source_hash", lambda module: "x" if module in names else original(module))
        return {key for key in every if hashes.row_hash(case, *key) != every[key]}

    assert changed("pocketface.compression.models.heads") == set(every)
    assert changed("pocketface.converters.formats.onnx") >= {key for key in every if key[0] == "onnx"}
    assert not changed("pocketface.converters.formats.tflite") & {key for key in every if key[0] == "onnx"}
    assert changed("pocketface.compression.quantize.onnx_static") == {("onnx", "w8a8")}
    monkeypatch.setattr(hashes, "_source_hash", original)
    monkeypatch.setattr(hashes, "tool_version", lambda name: "99" if name == "coremltools" else "1")
    upgraded = {key for key in every if hashes.row_hash(case, *key) != every[key]}
    assert {key[0] for key in upgraded} == set(every_format())  # torch's version changed for all of them
    monkeypatch.undo()


def _table(case: Case) -> Table:
    """A table of one case in which everything was verified."""
    made = tuple(
        Row(
            network=case.network,
            head=case.head,
            input=case.input,
            hash=hashes.row_hash(case, format, precision),
            trial=Trial(network=case.network, format=format, precision=precision, status="verified", executor="t 1"),
        )
        for format, known in every_format().items()
        for precision in known
    )
    return Table(command="make support", python="3", input_size=96, tools={}, rows=made)


def test_stale_missing_and_odd_rows_are_named() -> None:
    one = _table(cases()[0])
    problems = stale(one)
    assert len(problems) == len(wanted_keys()) - len(one.rows)
    assert all(problem.endswith("no row") for problem in problems)
    first = msgspec.structs.replace(one.rows[0], hash="0" * 16)
    odd = msgspec.structs.replace(one.rows[1], network="gone")
    problems = stale(msgspec.structs.replace(one, rows=(first, odd)))
    assert f"{' '.join(first.key)}: stale" in problems
    assert any(problem.startswith("gone") and "no such variant" in problem for problem in problems)


@pytest.mark.slow
def test_only_what_is_stale_is_tried_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    case = Case(network="mobilenetv2")
    monkeypatch.setattr("pocketface.compression.support.table.cases", lambda: [case])
    stored = _table(case)
    index = next(i for i, row in enumerate(stored.rows) if row.key[3:] == ("onnx", "fp32"))
    changed = msgspec.structs.replace(stored.rows[index], hash="0" * 16)
    stored = msgspec.structs.replace(stored, rows=(*stored.rows[:index], changed, *stored.rows[index + 1 :]))
    said: list[str] = []
    *_, done = make_table(stored, said.append)
    assert said == ["mobilenetv2: onnx fp32"]
    assert [row.key for row in done.rows] == [row.key for row in stored.rows]
    assert done.rows[index].trial.executor.startswith("onnxruntime")
    assert stale(msgspec.structs.replace(done, rows=(done.rows[index],))) == [
        problem for problem in stale(Table(command="", python="", input_size=1, tools={}, rows=()))
        if problem != "mobilenetv2 pooled normalised onnx fp32: no row"
    ]  # fmt: skip
    write_table(done, tmp_path / "support.md")
    assert read_table(tmp_path / "support.json") == done


def test_a_failed_row_shows_its_reason() -> None:
    row = _table(cases()[0]).rows[0]
    trial = msgspec.structs.replace(row.trial, status="failed", reason="too wild", operation="aten.roll")
    page = render(
        Table(command="c", python="3", input_size=1, tools={}, rows=(msgspec.structs.replace(row, trial=trial),))
    )
    assert "too wild" in page
    assert "aten.roll" in page
    assert "**no**" in page


def test_a_damaged_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"rows": 3}))
    with pytest.raises(BadInputError, match="Make it again: make support"):
        read_table(tmp_path / "a.json")
    with pytest.raises(BadInputError, match="make support"):
        read_table(tmp_path / "none.json")
