"""The page of a run of masks: accuracy, hints, and what is said of them, against figures computed by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from masks_page_run import BASE, FACE, GAINS, accuracy, faces, latency, network, run, section, stages, variant, video

from pocketface.benchmarks.papers import masks, masks_page
from pocketface.benchmarks.papers.masks import (
    MaskSpeed,
)


def test_table_61_stands_beside_the_papers():
    student = network("student", accuracy(83.5), model="mobile_segment", options={"trunk": "efficientnet_lite0"})
    found = section(run(student, *stages(BASE, BASE, BASE)), "Table 6.1")
    assert [(row["network"], row["in the paper"]) for row in found.rows] == [
        ("teacher", "(Det + Seg + Refine) Stage"),
        ("without refinement", "(Det + Seg) Stage"),
        ("segmentation only", "Only Seg Stage"),
        ("student", ""),
        ("", "U-Net"),
        ("", "DeeplabV3+"),
        ("", "[Muhammad et al., 2018]"),
    ]
    first = dict(found.rows[0])
    assert [first[f"{name} %"] for name in ("precision", "F1", "mIoU", "accuracy")] == [93, 89, 86, 91]
    assert (first["mIoU % per image"], first["F1 % per image"]) == (85, 88)
    assert (first["M parameters"], first["M FLOPs"], first["minutes"]) == (2.5, 310, 12)
    printed = {row["in the paper"]: [row.get(f"paper: {name} %") for name in PRINTED] for row in found.rows}
    assert printed["(Det + Seg + Refine) Stage"] == [97.33, 95.15, 91.25, 97.23]
    assert printed["Only Seg Stage"] == [95.64, 94.53, 89.91, 96.56]
    assert printed["[Muhammad et al., 2018]"] == [None, 84.90, None, 91.50]
    assert printed[""] == [None] * 4
    assert "20 epochs at 128 px" in found.text
    assert "190 epochs at 256 px, and gained 1.24 points of mIoU by the prior and 0.10 by border" in found.text


PRINTED = ("precision", "F1", "mIoU", "accuracy")


def test_a_network_made_otherwise_has_no_figures_of_the_paper():
    rows = [
        network("teacher", accuracy(86.0), options={"refine": False}),
        network("row-segmentation only", accuracy(86.0), model="unet"),
        network("teacher seed 1", accuracy(70.0), seed=1),
    ]
    found = section(run(*rows), "Table 6.1").rows
    assert [row["in the paper"] for row in found[:2]] == ["", ""]
    assert [row["network"] for row in found[:3]] == ["teacher", "segmentation only", ""]


def test_parts_are_judged_on_the_same_pictures():
    results = run(*stages(BASE + GAINS - 5, BASE + GAINS, BASE))
    lines = section(results, "Table 6.1").verdict
    # By hand: mean 1, standard deviation of 40 even steps from -1 to 3, t of 39 degrees 2.0227.
    reach = 2.0227 * np.std(GAINS, ddof=1) / np.sqrt(40)
    assert lines == (
        "Shape prior: without refinement is better than segmentation only by 1.00 points of mIoU on the same pictures, "
        f"95 % interval {1 - reach:.2f} to {1 + reach:.2f} (over pictures; one seed).",
        "Border refinement: teacher is worse than without refinement by 5.00 points of mIoU on the same pictures, "
        "95 % interval 5.00 to 5.00 (over pictures; one seed).",
    )


def test_an_interval_around_0_is_a_tie():
    lines = section(run(*stages(BASE, BASE + GAINS - 1.2, BASE)), "Table 6.1").verdict
    assert lines[0].startswith(
        "Shape prior: a tie of without refinement and segmentation only, -0.20 points of mIoU on the same pictures, "
        "95 % interval -0.58 to 0.18 (over pictures"
    )
    assert "is worse" not in "".join(lines)


def test_what_differs_in_budget_is_not_judged():
    lines = section(run(*stages(BASE + 9, BASE, BASE, epochs=40, input_size=192)), "Table 6.1").verdict
    assert lines[1] == (
        "Border refinement: teacher and without refinement differ in model.input_size, train.epochs too, so that no "
        "effect of it can be told."
    )


def test_several_seeds_are_paired_seed_by_seed_too():
    rows = stages(BASE, BASE, BASE)
    rows += [network(f"teacher seed {seed}", accuracy(86.0 + gain), seed=seed) for seed, gain in ((1, 0.2), (2, -0.1))]
    rows += [network(f"row-without refinement seed {seed}", accuracy(85.0), seed=seed) for seed in (2, 1)]
    lines = section(run(*rows), "Table 6.1").verdict
    # Differences 1, 1.2 and 0.9: mean 1.0333, standard deviation 0.15275, t of 2 degrees 4.303.
    assert lines[-1] == (
        "Border refinement: teacher is better than without refinement by 1.03 points of mIoU (pooled), "
        "95 % interval 0.65 to 1.41 (over seeds 0, 1, 2; above in 3 of 3)."
    )
    assert lines[1].endswith("(over pictures; seed 0).")


def test_borders_are_told_with_the_pictures():
    rows = [
        network("teacher", accuracy(86.0, each=BASE, borders=61.0)),
        network("row-without refinement", accuracy(86.0, each=BASE, borders=60.0), options={"refine": False}),
    ]
    results = run(*rows)
    assert section(results, "Table 6.1").verdict[-1] == (
        "Border refinement: along the borders teacher has trimap F1 61.00 % against 60.00 %, "
        "BF 60.00 % against 59.00 % of without refinement."
    )
    assert section(results, "Borders").rows[0] == {
        "network": "teacher",
        "trimap F1 %": 61.0,
        "BF %": 60.0,
        "mIoU %": 86.0,
    }
    assert "2 px" in section(results, "Borders").text


@pytest.mark.parametrize(("ms", "miou", "words"), [(9.0, 84.0, ("kept", "kept")), (11.0, 82.9, ("not kept",) * 2)])
def test_the_student_against_its_teacher(ms: float, miou: float, words: tuple[str, str]):
    speed = MaskSpeed(latency={"student": (latency(ms, 0.8),), "teacher": (latency(100.0, 9.0),)}, reference="known")
    results = run(network("teacher", accuracy(86.0)), network("student", accuracy(miou)), speed=speed)
    points, time = section(results, "Table 6.1").verdict
    gap = 86 - miou
    assert points == (
        f"student against its teacher, points of mIoU: {gap:.2f} below pooled, {gap:.2f} below per image "
        f"(bound 3 below): {words[0]}."
    )
    assert time == (
        f"student against its teacher, time on 2 threads: {ms:.2f} ms of 100.00 ms, {ms / 100:.3f} of it (bound 0.1): "
        f"{words[1]}."
    )


def test_hints_are_judged_where_nothing_else_differs():
    taught = {"logits": 1.0, "feature": 0.0, "border": 0.5}
    rows = [
        network("student", accuracy(80.0, f1=91.0, each=BASE + GAINS), hints=taught, **FACE),
        network("student seed 1", accuracy(82.0, f1=93.0), hints=taught, seed=1, **FACE),
        network("row-alone", accuracy(79.0, f1=90.0, each=BASE), **FACE),
        network("row-alone seed 1", accuracy(79.0, f1=90.0), seed=1, **FACE),
        network("row-longer", accuracy(79.0, f1=90.0, each=BASE), epochs=99, **FACE),
        network("row-wider", accuracy(79.0, f1=90.0, each=BASE), **{**FACE, "options": {"features": 32}}),
        network("row-remembers", accuracy(79.0, f1=90.0, each=BASE), previous=True, **FACE),
        network("row-other", accuracy(79.0, f1=90.0, each=BASE), **{**FACE, "model": "unet"}),
    ]
    found = section(run(*rows, classes="face11"), "Hints")
    assert found.rows == [
        {
            "row": "student",
            "hints": "logits 1, border 0.5",
            "seeds": "0, 1",
            "mIoU %": "81.00 (80.00 to 82.00)",
            "mIoU per image %": "80.00 (79.00 to 81.00)",
            "overall F1 %": "92.00 (91.00 to 93.00)",
        },
        {
            "row": "alone",
            "hints": "none",
            "seeds": "0, 1",
            "mIoU %": "79.00 (79.00 to 79.00)",
            "mIoU per image %": "78.00 (78.00 to 78.00)",
            "overall F1 %": "90.00 (90.00 to 90.00)",
        },
    ]
    assert found.verdict[0].startswith("student is better than alone by 1.00 points of mIoU on the same pictures")
    # Differences 1 and 3: standard deviation 1.41421, t of 1 degree 12.706.
    assert found.verdict[1] == (
        "a tie of student and alone, 2.00 points of overall F1 (pooled), 95 % interval -10.71 to 14.71 "
        "(over seeds 0, 1; above in 2 of 2)."
    )
    assert len(found.verdict) == 2


def test_whatever_else_the_recipe_has_must_be_the_same_too():
    def settings(**changes: object) -> dict[str, object]:
        train = {"epochs": 20, "lr": 1e-3}
        return {"model": {"name": "hourglass", "options": {}}, "train": train, "hints": None, "loss": {}, **changes}

    taught = settings(hints={"logits": 1.0, "feature": 0.0})
    for other, pairs in (
        (settings(), 2),
        (settings(train={"epochs": 20, "lr": 3e-3}), 0),
        (settings(loss={"dice": 1.0}), 0),
        (settings(model={"name": "hourglass", "options": {}, "init": "package"}), 0),
    ):
        rows = [
            network("student", accuracy(80.0, f1=91.0), hints={"logits": 1.0}, settings=taught),
            network("row-alone", accuracy(79.0, f1=90.0), settings=other),
        ]
        results = run(*rows, classes="face11")
        found = [item for item in masks_page.sections(results) if item.title.startswith("Hints")]
        assert len(found[0].rows if found else []) == pairs


def test_an_effect_needs_rows_that_differ_in_that_part_alone():
    unlike = stages(BASE + 2, BASE + 1, BASE, model="unet")
    lines = section(run(*unlike), "Table 6.1").verdict
    assert lines[0].startswith("Shape prior: without refinement is better")
    assert lines[1] == (
        "Border refinement: teacher and without refinement differ in model.name too, so that no effect of it can be "
        "told."
    )


def test_pictures_that_do_not_pair_are_not_compared():
    rows = stages(BASE, BASE[:-1], ())
    assert section(run(*rows), "Table 6.1").verdict == ()


def test_a_page_is_written_twice_the_same_from_its_own_figures(tmp_path: Path):
    results = run(
        *stages(BASE + GAINS, BASE, BASE),
        variants=(variant("fp32.tflite", 85.0), variant("w8a8.tflite", 84.6)),
        video={"teacher": {"clean": video(4.0, None)}},
        settled={"teacher": accuracy(80.0)},
        speed=MaskSpeed(latency={"known": (latency(8.0, 1.0),)}, reference="known", peak_mb={"known": 100.0}),
    )
    path = tmp_path / "hair.md"
    (tmp_path / "hair.notes.md").write_text("Nothing did.\n")
    masks_page.write(results, path)
    text = path.read_text()
    again = masks.read(path.with_suffix(".json"))
    assert again == results
    masks_page.write(again, path)
    assert path.read_text() == text
    assert text.startswith(f"# hair: hair segmentation\n\nRegenerate:\n\n```\npocketface results {tmp_path}/hair.json")
    assert "- data: Figaro1k: 756 train, 210 test; SHA-256 abababababababab (test)\n" in text
    assert "## What surprised us\n\nNothing did.\n" in text
    assert text.endswith("## Recipe\n\n```yaml\nname: hair\n```\n")
    assert masks_page.title(faces()).endswith("face parsing")
