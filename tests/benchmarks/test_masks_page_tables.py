"""The page of a run of masks: previous mask, files, time, and quoted tables, against figures computed by hand."""

from __future__ import annotations

import dataclasses

import msgspec
import pytest
from masks_page_run import FACE, accuracy, faces, latency, network, run, section, titles, variant, video

from pocketface.benchmarks.papers.masks import (
    MaskSpeed,
    Steps,
)
from pocketface.benchmarks.reports.text import DASH


def test_a_bound_holds_for_the_worse_of_pooled_and_per_image():
    base, worse = accuracy(86.0), accuracy(85.8)
    worse = msgspec.structs.replace(worse, whole=dataclasses.replace(worse.whole, miou_per_image=81.0))
    files = tuple(
        msgspec.structs.replace(variant(name, 0.0), accuracy=found)
        for name, found in (("fp32.onnx", base), ("w8a8.onnx", worse))
    )
    results = run(network("teacher", base), network("student", worse), variants=files)
    assert section(results, "Table 6.1").verdict[0].endswith("4.00 below per image (bound 3 below): not kept.")
    assert section(results, "Variants").verdict[0].endswith("points (bound 0.5 below): not kept.")


def test_f1_of_each_class_and_by_each_convention():
    found = section(faces(), "F1 of each class").rows
    assert [row["class"] for row in found] == [
        *("background", "skin", "nose", "overall F1: parts", "overall F1: parts and skin", "mean F1", "mIoU")
    ]
    assert found[1] == {"class": "skin", "teacher": 79.0, "student": 77.0, "slow": 76.0, "equal": 76.0}
    assert found[4] == {**found[4], "teacher": 92.0, "slow": 89.0}


def test_f1_per_millisecond_and_who_is_dominated():
    times = {"teacher": 100.0, "student": 10.0, "row-slow": 12.0, "row-equal": 20.0}
    entries = {name: (latency(2 * ms, 2.0, 1), latency(ms, ms / 8)) for name, ms in times.items()}
    speed = MaskSpeed(latency={"known": (latency(8.0, 1.0),), **entries}, reference="known")
    found = section(faces(speed=speed), "F-score per millisecond").rows
    assert [(row["network"], row["dominated by"]) for row in found] == [
        ("student", ""),
        ("slow", "student"),
        ("equal", "student"),
        ("teacher", ""),
    ]
    student = found[0]
    assert (student["f"], student["tau"], student["stem"], student["dense"], student["previous"]) == (
        *(16, 3, 2, "yes", "no"),
    )
    assert (student["ms, 1 thread"], student["ms, 2 threads"], student["ratio, 2 threads"]) == (20, 10, 1.25)
    assert student["F1 points per ms"] == pytest.approx(8.8)
    assert found[3]["f"] is None


def test_the_papers_parsing_is_quoted_apart():
    found = section(faces(), "Table 7.1")
    assert len(found.rows) == 6
    assert found.rows[0] == {"paper's row": "SegNet", "overall F-score": 92.90, "M parameters": 29.45}
    assert found.rows[-1] == {
        "paper's row": "Mobile-Hourglass-f32-tau6",
        "overall F-score": 93.55,
        "M parameters": 0.27,
    }
    assert "HELEN" in found.text
    assert "not comparable" in found.text


def test_hair_quotes_lfw_and_parsing_does_not():
    found = section(run(network("teacher", accuracy(86.0))), "Table 6.2")
    assert found.rows[0] == {"paper's row": "U-Net", **dict(zip(COLUMNS, (89.11, 87.66, 88.33, 96.58), strict=True))}
    assert found.rows[-1]["mIoU %"] == 90.56
    assert not any("6." in title for title in titles(faces()))


COLUMNS = ("precision %", "F1 %", "mIoU %", "accuracy %")


@pytest.mark.parametrize(
    ("with_mask", "f1", "words"),
    [
        (4.0, 88.0, "the previous mask lowers flicker from 5.00 to 4.00 % (floor 1.50) at overall F1 88.00 % against "
         "87.00 %, which is no lower."),
        (6.0, 86.9, "the previous mask raises flicker from 5.00 to 6.00 % (floor 1.50) at overall F1 86.90 % against "
         "87.00 %, which is lower."),
        (5.001, 87.0, "the previous mask leaves flicker at 5.00 % (floor 1.50) at overall F1 87.00 % against 87.00 %, "
         "which is no lower."),
    ],
)  # fmt: skip
def test_the_previous_mask_is_judged_by_flicker_and_f1(with_mask: float, f1: float, words: str):
    options = {**FACE["options"], "previous": True}
    rows = [
        network("student", accuracy(80.0, f1=90.0), model="hourglass", options=options, previous=True),
        network("row-forgets", accuracy(80.0, f1=89.0), model="hourglass", options={**options, "previous": False}),
        network("row-other", accuracy(80.0, f1=89.0), model="unet"),
        network("row-taught", accuracy(80.0, f1=89.0), hints={"logits": 1.0}, **FACE),
    ]
    results = run(
        *rows,
        classes="face11",
        video={
            "student": {"noisy": video(with_mask, f1)},
            "row-forgets": {"noisy": video(5.0, 87.0)},
            "row-other": {"noisy": video(1.0, 99.0)},
            "row-taught": {"noisy": video(9.0, 80.0)},
        },
        settled={"student": accuracy(81.0, f1=90.5)},
    )
    found = section(results, "Video")
    assert found.verdict == (f"student against forgets, noisy: {words}",)
    assert found.rows[0] == {
        "network": "student",
        "previous": "yes",
        "row": "noisy",
        "flicker %": with_mask,
        "changed pixels %": with_mask / 2,
        "floor %": 1.5,
        "overall F1 %": f1,
    }
    still = [(row["row"], row["overall F1 %"]) for row in found.rows[1:3]]
    assert still == [("still, first frame", 90.0), ("still, settled", 90.5)]
    assert [row["network"] for row in found.rows[3:]] == ["forgets", "other", "taught"]


def test_previous_mask_of_hair_is_judged_by_miou():
    rows = [network("student", accuracy(80.0), previous=True), network("row-forgets", accuracy(80.0))]
    clips = {"student": {"clean": video(4.0, None, 81.0)}, "row-forgets": {"clean": video(5.0, None, 82.0)}}
    (line,) = section(run(*rows, video=clips), "Video").verdict
    assert line.endswith(
        "lowers flicker from 5.00 to 4.00 % (floor 1.50) at mIoU 81.00 % against 82.00 %, which is lower."
    )


def test_variants_stand_against_the_fp32_file_of_their_format():
    files = (
        variant("fp32.tflite", 85.0, error=None),
        variant("w8a8.tflite", 84.6),
        variant("fp32.onnx", 86.0),
        variant("w8a8.onnx", 85.4, passed=False),
        variant("w8a8.coreml", 85.2),
    )
    left_out = {"w8a8.executorch": "mIoU error increase 0.7 > 0.5"}
    found = section(run(network("student", accuracy(85.0)), variants=files, left_out=left_out), "Variants")
    assert found.rows[-1] == {"variant": "w8a8.executorch", "ships": "no: mIoU error increase 0.7 > 0.5"}
    assert [row["against fp32, points"] for row in found.rows[:-1]] == [
        *(None, pytest.approx(-0.4), None, pytest.approx(-0.6), pytest.approx(0.2))
    ]
    assert found.rows[1] == {
        "variant": "w8a8.tflite",
        "MB": 2.5,
        "mIoU %": 84.6,
        "against fp32, points": pytest.approx(-0.4),
        "per image, points": pytest.approx(-0.4),
        "hair F1 %": pytest.approx(87.6),
        "probability error": "0.250",
        "ms, 1 thread": 7.0,
        "peak MB": 90.0,
        "executor": "tflite",
        "ships": "yes",
    }
    assert [row["ships"] for row in found.rows[:-1]] == ["yes, default", "yes", "yes", "no", "yes"]
    assert found.rows[0]["probability error"] == DASH
    assert found.verdict == (
        "w8a8.tflite: mIoU 0.40 below fp32 pooled and 0.40 below fp32 per image, points (bound 0.5 below): kept.",
        "w8a8.onnx: mIoU 0.60 below fp32 pooled and 0.60 below fp32 per image, points (bound 0.5 below): not kept.",
        "w8a8.coreml: mIoU 0.20 above fp32 pooled and 0.20 above fp32 per image, points (bound 0.5 below): kept.",
        "w8a8.executorch has no figures: mIoU error increase 0.7 > 0.5.",
    )


@pytest.mark.parametrize(
    ("classes", "ratio", "peak", "words"),
    [
        ("hair2", 0.85, 120.0, ("bound 0.85): kept", "120.0 MB (bound 150): kept")),
        ("hair2", 0.90, 151.0, ("bound 0.85): not kept", "151.0 MB (bound 150): not kept")),
        ("face11", 0.90, 150.0, ("bound 1.15): kept", "150.0 MB (bound 150): kept")),
        ("face11", 1.20, 150.1, ("bound 1.15): not kept", "150.1 MB (bound 150): not kept")),
    ],
)
def test_speed_and_memory_against_their_bounds(classes: str, ratio: float, peak: float, words: tuple[str, str]):
    speed = MaskSpeed(
        latency={"known": (latency(8.0, 1.0),), "student": (latency(12.0, 9.0, 1), latency(8 * ratio, ratio))},
        reference="known",
        peak_mb={"student": peak, "row-slow": 200.0},
        warning="busy",
    )
    found = section(run(network("student", accuracy(80.0)), classes=classes, speed=speed), "Speed")
    told = f"student: a mask of 256 cells a side in {ratio:.2f} x the time of known on two threads ("
    assert found.verdict[0].startswith(told)
    assert found.verdict[0].endswith("Not sure: busy.")
    assert all(word in line for word, line in zip(words, found.verdict, strict=True))
    assert found.text.endswith("Warning: busy.")
    assert found.rows[1] == {
        "network": "student",
        "p50 ms, 1 thread": 14.0,
        "ratio, 1 thread": 9.0,
        "inference ms, 1 thread": 12.0,
        "p50 ms, 2 threads": 8 * ratio + 2,
        "ratio, 2 threads": ratio,
        "inference ms, 2 threads": 8 * ratio,
        "peak MB": peak,
    }
    assert found.rows[2] == {"network": "slow", "peak MB": 200.0}


def test_steps_of_a_frame_stand_beside_the_iphones():
    steps = Steps(
        name="student fp32.tflite", width=640, height=480, threads=2, effect="hair dye",
        transform=1.0, inference=8.0, decode=2.5, colour=4.0,
    )  # fmt: skip
    found = section(run(network("student", accuracy(80.0)), steps=(steps,)), "Steps")
    assert (found.rows[0]["total"], found.rows[0]["detection"], found.rows[0]["photo"]) == (15.5, None, "640 x 480")
    assert len(found.rows) == 7
    dense = found.rows[-1]
    assert dense["network"] == "paper, iPhone X: Dense Mobile-Hourglass-f32-tau6"
    assert [dense[name] for name in ("detection", "inference", "colour", "total")] == [7, 75, 18, 110]
    assert "not comparable" in found.text


def test_parts_without_figures_are_left_out():
    assert titles(run()) == ["Table 6.2 of the thesis, quoted"]
    assert titles(run(classes="face11")) == []
    assert titles(run(network("teacher", accuracy(86.0)))) == ["Table 6.1: hair", "Table 6.2 of the thesis, quoted"]
    assert section(run(network("teacher", accuracy(86.0))), "Table 6.1").verdict == ()
