"""A run's results as the report shows them (report.json, report.html), and as figures for pages (results.json)."""

from __future__ import annotations

import datetime
from typing import Literal

import numpy as np

from pocketface.benchmarks.data.face import Face
from pocketface.benchmarks.machine import this_machine
from pocketface.benchmarks.reports.data import (
    Epoch,
    FaceScore,
    FaceShot,
    Figures,
    Network,
    ReliabilityBin,
    ReportData,
    VariantResult,
    finite,
    save,
)
from pocketface.benchmarks.reports.report import write_report
from pocketface.benchmarks.reports.thumbnails import face_thumbnail
from pocketface.compression.models.flops import count_parameters, flops
from pocketface.compression.pipeline.accuracy import NetworkAccuracy
from pocketface.compression.pipeline.context import Context
from pocketface.compression.pipeline.inputs import as_tensor, reference_pixels
from pocketface.compression.pipeline.provenance import provenance, tool_versions
from pocketface.compression.pipeline.result import RunResult, result_json
from pocketface.compression.pipeline.train import Trained
from pocketface.compression.recipe_file import dump_recipe
from pocketface.compression.training.tensors import predict
from pocketface.converters.bundle import Candidate, describe
from pocketface.sdk.files import write_atomic
from pocketface.sdk.geometry import Crop
from pocketface.sdk.images import read_image

SHOWN = 8  # faces in each of the groups "worst" and "best"


def write_run_report(context: Context, result: RunResult) -> ReportData:
    """Write report.html, report.json and results.json into the run's folder; what they show is returned."""
    data = report_data(context, result)
    save(data, context.run / "report.json", force=True)
    write_report(data, context.run / "report.html", force=True)
    write_atomic(context.run / "results.json", result_json(result), force=True)
    return data


def report_data(context: Context, result: RunResult) -> ReportData:
    """What the report shows of a run."""
    recipe, machine, origin = context.recipe, this_machine(), provenance(context)
    student = result.networks[-1]
    return ReportData(
        title=recipe.name,
        summary=(
            f"{student.spec.model.name} at {student.spec.model.input_size} px, trained with the "
            f"{student.spec.loss.name} loss on {recipe.data.name}."
        ),
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        default=f"fp32.{next(iter(recipe.export.formats))}",
        networks=tuple(
            _network(context, trained, result.accuracy[trained.name], role=_role(result, trained))
            for trained in result.networks
        ),
        variants=tuple(_variant(context, c, result.variants.get(c.id)) for c in result.candidates),
        gates=tuple(result.gates),
        faces=tuple(_shots(context, student, result.accuracy[student.name])),
        face_score=FaceScore(
            auroc=finite(result.score.auroc),
            ece=finite(result.score.ece),
            faces=result.score.faces,
            others=result.score.others,
            bins=tuple(ReliabilityBin(score=s, share=share, count=n) for s, share, n in result.score.bins),
        ),
        recipe=dump_recipe(recipe),
        data=origin.data,
        provenance={
            "recipe hash": origin.recipe_sha256,
            "commit": origin.git_commit,
            "seed": str(recipe.seed),
            **{f"{t.name}, training": f"{t.done.seconds / 60:.1f} min" for t in result.networks},
        },
        tools=tool_versions(),
        notes=tuple(result.notes),
        machine={"CPU": machine.cpu, "features": " ".join(machine.features), "cores": str(machine.cores)},
    )


def _role(result: RunResult, trained: Trained) -> Literal["student", "teacher", "baseline"]:
    """The student is what was exported; what it was made of is what it is held against."""
    if trained is result.networks[-1]:
        return "student"
    return "baseline" if trained in result.lineage else "teacher"


def _network(
    context: Context, trained: Trained, accuracy: NetworkAccuracy, *, role: Literal["student", "teacher", "baseline"]
) -> Network:
    net = trained.load(context.split.scheme.points)
    history = (
        Epoch(epoch=row["epoch"], train_loss=finite(row.get("landmark_loss")), val_nme=finite(row.get("val_nme")))
        for row in trained.history
    )
    return Network(
        name=f"{trained.name} ({trained.spec.model.name})",
        role=role,
        parameters=count_parameters(net),
        flops=flops(net),
        accuracy=Figures.of(accuracy.accuracy),
        errors=tuple(accuracy.errors),
        history=tuple(history),
    )


def _variant(context: Context, candidate: Candidate, accuracy: NetworkAccuracy | None) -> VariantResult:
    return VariantResult(
        variant=describe(candidate, candidate.exported.path, candidate.exported.path.parent),
        accuracy=Figures.of(accuracy.accuracy) if accuracy else None,
        errors=tuple(accuracy.errors) if accuracy else (),
    )


def _shots(context: Context, student: Trained, accuracy: NetworkAccuracy) -> list[FaceShot]:
    order = np.argsort(accuracy.errors)
    groups = {"Worst faces": order[::-1][:SHOWN], "Best faces": order[:SHOWN]}
    net, faces = student.load(context.split.scheme.points), context.split.test
    shots = []
    for group, chosen in groups.items():
        picked: list[Face] = [faces[i] for i in chosen]
        points, _ = predict(net, as_tensor(reference_pixels(picked, net.input_size)))
        for row, face in enumerate(picked):
            found = Crop.from_box(face.box).to_image(points[row].numpy())
            shots.append(
                FaceShot(
                    title=f"{face.name}: {100 * accuracy.errors[chosen[row]]:.2f} %",
                    png=face_thumbnail(read_image(face.image), found, face.points),
                    group=group,
                )
            )
    return shots
