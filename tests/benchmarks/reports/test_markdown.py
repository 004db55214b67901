"""Markdown of results pages, and what counts as a tie between seeds."""

from __future__ import annotations

import pytest

from pocketface.benchmarks.reports.markdown import header, mean_and_range, table, tied
from pocketface.sdk.errors import BadInputError


def test_table_by_hand():
    rows = [
        {"loss": "L2", "NME": 4.126, "AUC": 0.61234, "seeds": 3},
        {"loss": "KD | 2.5", "NME": 4.0, "AUC": None, "seeds": 3},
        {"loss": "L1\nline", "NME": 4.001, "AUC": float("nan"), "seeds": 1},
    ]
    assert table(rows, digits={"AUC": 3}, best={"NME": "min", "AUC": "max"}) == (
        "| loss | NME | AUC | seeds |\n"
        "| --- | ---: | ---: | ---: |\n"
        "| L2 | 4.13 | **0.612** | 3 |\n"
        "| KD \\| 2.5 | **4.00** | – | 3 |\n"  # noqa: RUF001
        "| L1 line | **4.00** | – | 1 |\n"  # noqa: RUF001 -- as written it is the best too
    )


def test_columns_are_chosen_and_ordered():
    rows = [{"a": 1, "b": "x"}, {"a": 2.25, "c": True}]
    assert table(rows, ["c", "a"], digits=1) == "| c | a |\n| --- | ---: |\n| – | 1 |\n| True | 2.2 |\n"  # noqa: RUF001


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([],), "without rows"),
        (([{"a": 1}], ["b"]), "column 'b'"),
        (([{"a": 1}], None, {"best": {"b": "min"}}), "column 'b'"),
        (([{"a": 1}], None, {"best": {"a": "least"}}), "best 'least'"),
    ],
)
def test_bad_tables_are_refused(arguments: tuple, message: str):
    *positional, options = arguments if isinstance(arguments[-1], dict) else (*arguments, {})
    with pytest.raises(BadInputError, match=message):
        table(*positional, **options)


def test_a_page_begins_with_its_command_and_facts():
    text = header(
        "face68 with KD", command="pocketface ablate x.yaml", facts={"seeds": "0, 1, 2", "machine": "2 cores"}
    )
    assert text.startswith("# face68 with KD\n\nRegenerate:\n\n```\npocketface ablate x.yaml\n```\n")
    assert text.endswith("- seeds: 0, 1, 2\n- machine: 2 cores\n\n")


def test_mean_and_range():
    assert mean_and_range([4.0, 4.2, 4.1]) == "4.10 (4.00 to 4.20)"
    assert mean_and_range([4.004], 3) == "4.004"
    assert mean_and_range([]) == mean_and_range([1.0, float("nan")]) == "–"  # noqa: RUF001


def test_a_gap_inside_either_range_is_a_tie():
    assert tied([4.0, 4.2], [4.15, 4.25])  # means 0.1 apart, range 0.2
    assert tied([4.0, 4.0], [3.9, 4.3])  # only one of them varies
    assert not tied([4.0, 4.1], [4.5, 4.6])
    assert tied([4.0], [4.0])
    assert not tied([4.0], [4.001])
    for bad in ([], [float("nan")]):
        with pytest.raises(BadInputError):
            tied([1.0], bad)
