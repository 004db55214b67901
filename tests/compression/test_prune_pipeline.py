"""A run whose student is pruned: what is exported, what the bundle says, what a killed fine-tuning goes on with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from tiny import SHORT, tiny_recipe

from pocketface.compression.models.checkpoint import load_checkpoint
from pocketface.compression.models.flops import flops
from pocketface.compression.pipeline import prune, train
from pocketface.compression.pipeline.context import Context
from pocketface.compression.pipeline.networks import network_names, train_networks
from pocketface.compression.pipeline.run import STUDENT, RunResult, compress
from pocketface.compression.training.fit import fit
from pocketface.compression.training.loop import WEIGHTS
from pocketface.converters.verify import verify_bundle
from pocketface.sdk.bundle import open_bundle
from pocketface.sdk.errors import UnknownNameError

pytestmark = pytest.mark.slow


def recipe(**changes: Any):
    pruned: dict[str, Any] = {
        "prune": {"options": {"keep_flops": 0.7, "round_to": 4, "batches": 1}, "train": {**SHORT, "epochs": 2}},
        "export": {"formats": {"onnx": ["fp32"]}, "golden_faces": 1, "parity_faces": 8},
        "bench": {"threads": [1], "runs": 3, "warmup": 1},
    }
    return tiny_recipe({**pruned, **changes}, loss={"name": "l1"})


@pytest.fixture(scope="module")
def run(drawn_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Context, RunResult]:
    context = Context(recipe(), drawn_folder, tmp_path_factory.mktemp("run"), progress=False)
    return context, compress(context)


def test_what_is_left_is_shipped(run: tuple[Context, RunResult]):
    context, result = run
    assert [trained.name for trained in result.networks] == ["student", "pruned"]
    whole, pruned = (flops(trained.load(68)) for trained in result.networks)
    assert 0.4 * whole < pruned <= 0.7 * whole
    assert result.bundle is not None
    with open_bundle(result.bundle) as bundle:
        assert verify_bundle(bundle).failures() == []
        (stage,) = bundle.manifest.stages
        assert stage.flops == pruned
        assert stage.variants[0].metrics["nme"] == pytest.approx(result.accuracy["pruned"].accuracy.nme, abs=1e-3)
        assert "| pruned | channels: FLOPs" in (bundle.root / "card.md").read_text()
    assert flops(load_checkpoint(context.run / STUDENT)) == pruned
    figures = json.loads((context.run / "results.json").read_text())
    assert set(figures["networks"]) == {"student", "pruned"}
    report = json.loads((context.run / "report.json").read_text())
    assert [network["role"] for network in report["networks"]] == ["baseline", "student"]


def test_nothing_is_done_twice_and_the_student_does_not_depend_on_it(run: tuple[Context, RunResult]):
    context, result = run
    again = train_networks(Context(context.recipe, context.data, context.run, progress=False))
    assert list(again) == ["tolerant", "tough", "student", "pruned"]
    assert {name: again[name].key for name in ("student", "pruned")} == {
        trained.name: trained.done.key for trained in result.networks
    }
    whole = Context(recipe(prune=None), context.data, context.run, progress=False)
    assert network_names(whole) == ["tolerant", "tough", "student"]
    assert train_networks(whole, ["student"])["student"].key == result.networks[0].done.key
    with pytest.raises(UnknownNameError, match="pruned"):
        train_networks(whole, ["pruned"])


def test_what_pruning_costs_is_held_against_its_bound(run: tuple[Context, RunResult]):
    context, result = run
    whole, pruned = (result.accuracy[name].accuracy.nme for name in ("student", "pruned"))
    bound = abs(pruned - whole) + 1
    bounded = compress(Context(recipe(gates={"max_pruned_increase": bound}), context.data, context.run, progress=False))
    (gate,) = [gate for gate in bounded.gates if "pruning" in gate.gate]
    assert (gate.variant, gate.bound, gate.passed) == ("student", bound, True)
    assert gate.figure == pytest.approx(pruned - whole)


def test_a_killed_fine_tuning_goes_on_with_the_same_network(
    run: tuple[Context, RunResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    context, result = run
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages" / result.networks[0].done.path.name).symlink_to(result.networks[0].done.path)
    other = Context(context.recipe, context.data, tmp_path, progress=False)

    def killed(*arguments: Any, **settings: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "fit", killed)
    with pytest.raises(KeyboardInterrupt):
        train_networks(other, ["pruned"])
    monkeypatch.setattr(train, "fit", fit)
    monkeypatch.setattr(prune, "_cut", lambda *_: pytest.fail("cut again"))
    again = train_networks(other, ["pruned"])["pruned"].path
    first, second = (load_file(path / WEIGHTS) for path in (result.networks[1].done.path, again))
    assert first.keys() == second.keys()
    assert all(bool((first[name] == second[name]).all()) for name in first)
