"""The page of RULe is what its stored figures give."""

from __future__ import annotations

from pathlib import Path

import pytest

from pocketface.benchmarks.papers import rule, rule_page

PAGES = Path(__file__).parents[2] / "docs" / "results"


def test_the_shipped_page_is_what_its_figures_give(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    figures = rule.read(PAGES / "rule68.json")
    path = Path("docs/results/rule68.md")
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).with_suffix(".notes.md").write_bytes((PAGES / "rule68.notes.md").read_bytes())
    monkeypatch.chdir(tmp_path)
    rule_page.write(figures, path)
    for suffix in (".md", ".json"):
        assert path.with_suffix(suffix).read_bytes() == (PAGES / f"rule68{suffix}").read_bytes()
