from pathlib import Path

import msgspec
import pytest
from bundle_factory import edit_manifest, make_bundle

from pocketface.sdk import manifest
from pocketface.sdk.bundle import open_bundle
from pocketface.sdk.inspection import print_manifest


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = make_bundle(
        tmp_path_factory.mktemp("b"),
        variants=("fp32.onnx", "w8a8.onnx", "fp16.coreml"),
        allow_unverified=["fp16.coreml"],
    )
    latency = {"executor": "ort 1", "cpu": "A [fast] CPU", "cpu_features": ["avx2"], "threads": 2, "runs": 100}
    latency |= {"p50_ms": 1.234, "p90_ms": 2.345, "p99_ms": 3.456, "pre_ms": 1, "inference_ms": 1, "post_ms": 1}
    latency |= {"peak_rss_mb": 77.7, "ratio": 0.51}

    def fill(raw: dict) -> None:
        first = raw["stages"][0]["variants"][0]
        first["latency"] = [latency]
        first["metrics"] = {"nme": 4.1234, "fr": 0.5}
        first["parity"] |= {"nme_reference": 4.0, "nme": 4.3312, "max_pixel_error": 0.0001, "mean_pixel_error": 1e-5}
        first["parity"]["outputs"]["score"]["max_error"] = 1e-6

    return edit_manifest(made, fill)


def test_everything_that_matters_is_shown(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    contents = manifest.decode((folder / "manifest.json").read_bytes())
    print_manifest(contents)
    shown = capsys.readouterr().out
    for text in (
        *(
            "tiny",
            "schema 1, 2 golden cases",
            "ibug68, 68 points",
            "input 32 x 32",
            "6.71 k parameters",
            "13.2 k FLOPs",
        ),
        *("fp32.onnx (default)", "w8a8", "coreml", "passed", "unverified", "no executor for coreml", "numpy, 2 faces"),
        *(
            "4.000 -> 4.331",
            "max 0.0001, mean 1e-05",
            "1e-06",
            "4.123",
            "1.23",
            "2.35",
            "3.46",
            "0.51",
            "78",
            "A [fast] CPU",
        ),
        *("CC0-1.0", "drawn ellipses: 2 faces", "0000000000000000", "nme 4", "onnx ", "may ship unverified"),
    ):
        assert text in shown, text
    size = (folder / "models" / "tiny.fp32.onnx").stat().st_size
    assert f"{size / 1000:.1f} kB" in shown


def test_brackets_in_names_are_shown_not_read_as_markup(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    contents = manifest.decode((folder / "manifest.json").read_bytes())
    print_manifest(msgspec.structs.replace(contents, name="[bold]x[/bold]", weights_licence="[/oops]"))
    shown = capsys.readouterr().out
    assert "[bold]x[/bold]" in shown
    assert "[/oops]" in shown


def test_a_detectors_boxes_are_what_is_compared(capsys: pytest.CaptureFixture[str]) -> None:
    with open_bundle("face-detector") as bundle:
        contents = bundle.manifest
    (stage,) = contents.stages
    first = stage.variants[0]
    assert first.parity is not None
    parity = msgspec.structs.replace(first.parity, nme_reference=5.1, nme=5.2504)
    variants = (msgspec.structs.replace(first, parity=parity), *stage.variants[1:])
    print_manifest(msgspec.structs.replace(contents, stages=(msgspec.structs.replace(stage, variants=variants),)))
    lines = capsys.readouterr().out.split("┏")[1].splitlines()  # the first table: its border, head, border, first row
    columns = [cell.strip() for cell in lines[1].split("┃")]
    cells = [cell.strip() for cell in lines[3].split("│")]
    assert cells[columns.index("box error %")] == "5.100 -> 5.250"
    assert "missed %" not in columns  # figures on pictures, which the table of metrics has
