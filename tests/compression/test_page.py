from __future__ import annotations

from pathlib import Path

import pytest

from pocketface.benchmarks.metrics import Accuracy
from pocketface.compression.pipeline.ablation import Trial
from pocketface.compression.pipeline.page import ablation_rows, collect, read_results, update_readme, verdict
from pocketface.sdk.errors import BadInputError


def trial(row: str, seed: int, nme: float) -> Trial:
    accuracy = Accuracy(faces=10, nme=nme, median=nme, fr=1.0, landmark_fr=2.0, auc=0.5)
    return Trial(row, seed, "k", 60.0, accuracy, accuracy)


def trials(**rows: list[float]) -> list[Trial]:
    names = {"l2": "L2", "l1": "L1", "kd": "KD phi 2.5"}
    return [trial(names[row], seed, nme) for row, values in rows.items() for seed, nme in enumerate(values)]


@pytest.mark.parametrize(
    ("l2", "kd", "said"),
    [
        ([6.0, 6.1, 6.2], [5.0, 5.1, 5.2], "**KD phi 2.5 beats L2** (+1.000 points of NME, +16.4 %)"),
        ([5.0, 5.1, 5.2], [6.0, 6.1, 6.2], "**KD phi 2.5 loses to L2** (-1.000"),
        ([5.0, 5.3, 5.6], [5.2, 5.2, 5.2], "**KD phi 2.5 ties with L2**: the gap (+0.100"),
    ],
)
def test_the_verdict_follows_from_the_figures(l2: list[float], kd: list[float], said: str):
    assert said in verdict(trials(l2=l2, kd=kd))


def test_rows_give_mean_and_range():
    (row,) = ablation_rows(trials(l2=[4.0, 5.0, 6.0]))
    assert row["test NME %"] == "5.000 (4.000 to 6.000)"
    assert row["seeds"] == 3
    assert row["minutes"] == 1.0


def test_an_unfinished_run_has_no_page(tmp_path: Path):
    with pytest.raises(BadInputError, match=r"results\.json"):
        collect(tmp_path)


def test_a_file_that_is_no_results_is_refused(tmp_path: Path):
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(BadInputError, match=r"x\.json"):
        read_results(tmp_path / "x.json")


def test_a_readme_without_markers_is_left_alone(tmp_path: Path):
    readme = tmp_path / "README.md"
    readme.write_text("# nothing here")
    with pytest.raises(BadInputError, match="no place"):
        update_readme(None, readme)  # type: ignore[arg-type]
    assert readme.read_text() == "# nothing here"
