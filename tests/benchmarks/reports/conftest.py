"""A small report with every part, and the same without any."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from pocketface.benchmarks.reports import data as d
from pocketface.sdk import manifest as m

NASTY = "<b>&\"'$x_1$"
"""A name that breaks out of HTML, of an attribute, and into matplotlib's formulas, where it is not escaped."""


def variant(id: str, size: int, *, status: str = "passed", times: tuple[float, ...] = (), **more) -> m.Variant:
    precision, format = id.split(".")[-2:]
    latency = tuple(
        m.Latency(
            executor="runtime 1.0",
            cpu="Test CPU",
            cpu_features=("avx2",),
            threads=threads,
            runs=100,
            p50_ms=p50,
            p90_ms=p50 * 1.5,
            p99_ms=p50 * 2,
            pre_ms=0.5,
            inference_ms=p50 - 0.6,
            post_ms=0.1,
            peak_rss_mb=70.4,
            ratio=0.5,
        )
        for threads, p50 in enumerate(times, 1)
    )
    return m.Variant(
        id=id,
        format=format,
        precision=precision,
        files=(m.FileEntry(path="models/x", bytes=size, sha256="0" * 64),),
        inputs={},
        outputs={},
        tolerances=more.pop("tolerances", m.Tolerances()),
        status=status,
        latency=latency,
        **more,
    )


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (20, 20), (200, 150, 120)).save(buffer, "PNG")
    return buffer.getvalue()


def build() -> d.ReportData:
    parity = m.Parity(
        executor="runtime 1.0",
        faces=64,
        outputs={
            "points": m.OutputParity(max_error=3e-5, mean_error=2e-6),
            "score": m.OutputParity(max_error=0.02, mean_error=1e-3),
        },
        max_pixel_error=1.84,
        mean_pixel_error=0.21,
        nme_reference=5.005,
        nme=5.331,
    )
    student = d.Figures(faces=4, nme=4.0, median=3.5, fr=25.0, landmark_fr=12.5, auc=0.6)
    return d.ReportData(
        title=f"A run {NASTY}",
        summary="What was done.",
        created="2026-01-02",
        default="a.fp32.onnx",
        networks=(
            d.Network(
                name="student",
                role="student",
                parameters=2_220_000,
                flops=210_000_000,
                accuracy=student,
                errors=(0.01, 0.02, 0.03, 0.2),
                history=(
                    d.Epoch(epoch=1, train_loss=1.0, val_nme=40.0),
                    d.Epoch(epoch=2, train_loss=0.5, val_nme=4.25),
                    d.Epoch(epoch=3, train_loss=None, val_nme=4.5),
                ),
            ),
            d.Network(
                name=f"teacher {NASTY}", role="teacher", accuracy=d.Figures(faces=4, nme=3.25), errors=(0.01, 0.04)
            ),
        ),
        variants=(
            d.VariantResult(
                variant=variant("a.fp32.onnx", 9_400_000, times=(4.0, 2.5)), accuracy=student, errors=(0.01, 0.02)
            ),
            d.VariantResult(
                variant=variant(
                    "a.w8a8.tflite",
                    2_350_000,
                    status="failed",
                    times=(3.0, 2.0),
                    parity=parity,
                    tolerances=m.Tolerances(max_nme_increase=0.05),
                ),
                accuracy=d.Figures(faces=4, nme=4.326),
                errors=(0.01, None),
            ),
            d.VariantResult(variant=variant("a.fp16.coreml", 4_700_000, status="unverified", reason="no macOS here")),
        ),
        gates=(
            d.Gate(gate="max_tensor_error", variant="a.fp32.onnx", figure=2e-6, bound=1e-4, passed=True),
            d.Gate(gate="max_nme_increase", variant="a.w8a8.tflite", figure=0.326, bound=0.05, passed=False),
        ),
        faces=(
            d.FaceShot(title=f"helen/1 {NASTY}", png=png(), group="Worst"),
            d.FaceShot(title="helen/2", png=png(), group="Best"),
        ),
        face_score=d.FaceScore(
            auroc=0.9987, ece=0.0123, faces=10, others=20, bins=(d.ReliabilityBin(score=0.1, share=0.0, count=9),)
        ),
        recipe="# café\nname: <x>\n",
        data=(m.DataSource(name="300-W", split="test", faces=4, sha256="ab" * 32, licence="research only"),),
        provenance={"git commit": "0123abcd"},
        tools={"torch": "2.13.0"},
        machine={"CPU": "Test CPU"},
        notes=("int8 was slower.",),
    )


@pytest.fixture(scope="session")
def full() -> d.ReportData:
    return build()


@pytest.fixture(scope="session")
def bare() -> d.ReportData:
    return d.ReportData(title="bare")
