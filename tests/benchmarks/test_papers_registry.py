"""Which paper a run's figures belong to."""

from __future__ import annotations

from pathlib import Path

import pytest

from pocketface.benchmarks.papers.registry import PAPERS, figures_file, paper_of
from pocketface.sdk.errors import BadInputError

STORED = Path(__file__).parents[2] / "docs" / "results"


@pytest.mark.parametrize("path", sorted(STORED.glob("*.json")), ids=lambda path: path.stem)
def test_every_page_with_a_paper_is_what_its_figures_give(path: Path, tmp_path: Path):
    paper = paper_of(path)
    if paper is None:
        assert path.stem.startswith("face68")  # whose page is older than papers
        return
    again = tmp_path / "docs" / "results" / path.with_suffix(".md").name
    again.parent.mkdir(parents=True)
    notes = path.with_suffix(".notes.md")
    (again.with_suffix(".notes.md")).write_text(notes.read_text("utf-8"), "utf-8")
    paper.write(paper.read(path), again)
    text = again.read_text().replace(f"{tmp_path}/", "")
    assert text == path.with_suffix(".md").read_text()
    assert again.with_suffix(".json").read_bytes() == path.read_bytes()


def test_the_figures_of_a_folder_lie_in_it(tmp_path: Path):
    assert figures_file(tmp_path) == tmp_path / "results.json"
    assert figures_file(tmp_path / "x.json") == tmp_path / "x.json"


@pytest.mark.parametrize("text", [None, "{", "[]", '{"kind": "other"}', "{}"])
def test_what_is_of_no_paper_is_left_to_the_older_page(text: str | None, tmp_path: Path):
    if text is not None:
        (tmp_path / "results.json").write_text(text)
    assert paper_of(tmp_path) is None


@pytest.mark.parametrize("kind", sorted(PAPERS))
def test_a_page_says_what_its_figures_lack(kind: str, tmp_path: Path):
    (tmp_path / "results.json").write_text(f'{{"kind": "{kind}"}}')
    paper = paper_of(tmp_path)
    assert paper is not None
    with pytest.raises(BadInputError, match=r"results\.json"):
        paper.read(tmp_path / "results.json")
