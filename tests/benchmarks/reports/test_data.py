"""Report data as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from pocketface.benchmarks.metrics import summarise_errors
from pocketface.benchmarks.reports.data import Epoch, Figures, ReportData, finite, load, save
from pocketface.sdk.errors import BadInputError


def test_round_trip(full: ReportData, bare: ReportData, tmp_path: Path):
    for name, data in (("full", full), ("bare", bare)):
        path = save(data, tmp_path / f"{name}.json")
        assert load(path) == data
    assert json.loads((tmp_path / "full.json").read_text())["networks"][0]["history"][1]["val_nme"] == 4.25
    with pytest.raises(BadInputError, match="--force"):
        save(bare, tmp_path / "full.json")
    save(bare, tmp_path / "full.json", force=True)
    assert load(tmp_path / "full.json") == bare


def test_no_number_becomes_none():
    epoch = Epoch(epoch=1, train_loss=float("nan"), val_nme=float("inf"))
    assert msgspec.json.decode(msgspec.json.encode(epoch), type=Epoch) == Epoch(epoch=1)
    assert [finite(value) for value in (None, float("nan"), float("-inf"), 0.0, 2)] == [None, None, None, 0.0, 2.0]


def test_figures_of_an_accuracy():
    accuracy = summarise_errors([[0.01, 0.03], [0.3, 0.1]])
    figures = Figures.of(accuracy)
    assert (figures.faces, figures.nme, figures.auc) == (2, accuracy.nme, accuracy.auc)
    assert (figures.nme, figures.fr, figures.landmark_fr) == pytest.approx((11.0, 50.0, 25.0))
    assert Figures.of(SimpleNamespace(faces=1, nme=float("nan"))) == Figures(faces=1, nme=None)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "report.json"),
        (b"{", "report.json"),
        (b"\xff\xfe", "report.json"),
        (b"{}", "title"),
        (b'{"title": "x", "titel": 1}', "titel"),
        (b'{"title": "x", "schema": 2}', "schema 2"),
        (b'{"title": "x", "networks": [{"name": "n", "role": "pupil"}]}', "pupil"),
    ],
)
def test_what_is_no_report_is_refused(tmp_path: Path, content: bytes, message: str):
    path = tmp_path / "report.json"
    path.write_bytes(content)
    with pytest.raises(BadInputError, match=message):
        load(path)


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(BadInputError, match=r"absent\.json"):
        load(tmp_path / "absent.json")


def test_default_and_student(full: ReportData, bare: ReportData):
    assert full.headline is full.variants[0]
    assert full.student is full.networks[0]
    assert bare.headline is None
    assert bare.student is None
