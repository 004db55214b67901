"""A bundle of the tiny network with real exports, made once a run."""

from __future__ import annotations

import hashlib
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundle_factory import picture
from tiny_export import POINTS, SIZE, exported, inputs, tiny_net
from verify_command import Run

from pocketface.converters.bundle import Candidate, write_bundle
from pocketface.converters.parity import References, measure
from pocketface.converters.reference import golden_case, golden_references, references, torch_run
from pocketface.sdk.cli import main
from pocketface.sdk.geometry import Box
from pocketface.sdk.manifest import DataSource, OutputSpec, Preprocess, Provenance, Stage, TensorSpec
from pocketface.sdk.schemes import load_scheme


@pytest.fixture(scope="session")
def stage() -> Stage:
    """The tiny network's stage, without variants."""
    return Stage(
        name="landmarks",
        task="landmarks",
        preprocess=Preprocess(size=SIZE, mean=(127.0, 127.0, 127.0), std=(64.0, 64.0, 64.0)),
        inputs=(TensorSpec(name="image", shape=(1, 3, SIZE, SIZE)),),
        outputs=(
            OutputSpec(name="points", shape=(1, POINTS, 2), decode="normalised_points"),
            OutputSpec(name="score", shape=(1,), decode="face_logit"),
        ),
        scheme=load_scheme("ibug68"),
        parameters=sum(parameter.numel() for parameter in tiny_net().parameters()),
        flops=1000,
        variants=(),
    )


@pytest.fixture(scope="session")
def golden(stage: Stage) -> list[dict[str, Any]]:
    """Three golden cases."""
    run = torch_run(tiny_net())
    return [golden_case(run, picture(seed=seed), Box(20 + seed, 8, 71 + seed, 59), stage) for seed in range(3)]


@pytest.fixture(scope="session")
def annotated() -> References:
    """Faces whose truth is near what the network says, so that the NME is a sane number."""
    found = references(torch_run(tiny_net()), inputs(6, seed=4))
    noise = np.random.default_rng(0).normal(0, 0.02, found.main.shape).astype(np.float32)
    return References(found.inputs, found.outputs, found.main + noise)


@pytest.fixture(scope="session")
def candidate(golden: list[dict[str, Any]], annotated: References) -> Callable[[str, str], Candidate]:
    """(format, precision) -> the exported file with its comparison."""

    def make(format: str, precision: str) -> Candidate:
        item = exported(format, precision)
        return Candidate(item, measure(item, golden=golden_references(golden), faces=annotated))

    return make


@pytest.fixture(scope="session")
def provenance() -> Provenance:
    return Provenance(
        recipe="name: tiny\n",
        recipe_sha256=hashlib.sha256(b"name: tiny\n").hexdigest(),
        data=(DataSource(name="none", split="train", faces=1, sha256="0" * 64, licence="CC0-1.0"),),
        tools={},
    )


@pytest.fixture
def write(stage: Stage, golden: list[dict[str, Any]], provenance: Provenance) -> Callable[..., Path]:
    """``write_bundle`` with everything filled in but the candidates."""

    def make(out: Path, candidates: list[Candidate], **changes: Any) -> Path:
        settings: dict[str, Any] = {
            "name": "tiny",
            "stage": stage,
            "default": "fp32.onnx",
            "golden": golden,
            "card": "# tiny\n",
            "provenance": provenance,
            "weights_licence": "CC0-1.0",
            **changes,
        }
        return write_bundle(out, candidates=candidates, **settings)

    return make


@pytest.fixture(scope="session")
def _shared_bundle(
    tmp_path_factory: pytest.TempPathFactory,
    stage: Stage,
    golden: list[dict[str, Any]],
    provenance: Provenance,
    candidate: Callable[[str, str], Candidate],
) -> Path:
    pairs = [("onnx", "fp32"), ("onnx", "fp16"), ("tflite", "fp32")]
    return write_bundle(
        tmp_path_factory.mktemp("bundles") / "tiny",
        name="tiny",
        stage=stage,
        candidates=[candidate(*pair) for pair in pairs],
        default="fp32.onnx",
        golden=golden,
        card="# tiny\n",
        provenance=provenance,
        weights_licence="CC0-1.0",
    )


@pytest.fixture
def bundle(_shared_bundle: Path, tmp_path: Path) -> Path:
    """A bundle of three real exports; the test's own copy."""
    return shutil.copytree(_shared_bundle, tmp_path / "tiny")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """``pocketface verify …`` -> exit code, standard output, standard error."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["pocketface", "verify", *(str(item) for item in arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return call
