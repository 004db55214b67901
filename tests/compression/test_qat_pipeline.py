"""A run whose student is trained for 8 bits: what it is, what the bundle says, what a killed training goes on with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from tiny import SHORT, tiny_recipe

from pocketface.compression.pipeline.context import Context
from pocketface.compression.pipeline.networks import network_names, train_networks
from pocketface.compression.pipeline.qat import qat_config
from pocketface.compression.pipeline.run import RunResult, compress
from pocketface.compression.recipe import QatSpec
from pocketface.compression.training import fit
from pocketface.compression.training.loop import WEIGHTS, run_loop
from pocketface.converters.verify import verify_bundle
from pocketface.sdk.bundle import open_bundle
from pocketface.sdk.errors import ConfigError

pytestmark = pytest.mark.slow


def recipe(**changes: Any):
    aware: dict[str, Any] = {
        "qat": {"options": {"keep_float": ["features.1"]}, "train": {**SHORT, "epochs": 2, "lr": 1e-4}},
        "export": {"formats": {"onnx": ["fp32", "w8a8"]}, "golden_faces": 1, "parity_faces": 8},
        "gates": {"max_nme_increase": {"w8a8": 50.0}, "max_qat_increase": 50.0},
        "bench": {"threads": [1], "runs": 3, "warmup": 1},
    }
    return tiny_recipe({**aware, **changes}, loss={"name": "l1"})


@pytest.fixture(scope="module")
def run(drawn_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Context, RunResult]:
    context = Context(recipe(), drawn_folder, tmp_path_factory.mktemp("run"), progress=False)
    return context, compress(context)


def test_it_ships(run: tuple[Context, RunResult]):
    context, result = run
    assert [trained.name for trained in result.networks] == ["student", "qat"]
    before, after = (load_file(trained.done.path / WEIGHTS) for trained in result.networks)
    assert before.keys() == after.keys(), "the same network, nothing of the rounding is left in it"
    assert any(bool((before[name] != after[name]).any()) for name in before)
    assert result.bundle is not None
    with open_bundle(result.bundle) as bundle:
        assert verify_bundle(bundle).failures() == []
        card = (bundle.root / "card.md").read_text()
    assert "trained so for 2 epochs" in card
    assert "features.1.conv.0.0" in card, "what is left in float"
    (gate,) = [gate for gate in result.gates if "8 bits" in gate.gate]
    nme = {name: found.accuracy.nme for name, found in result.accuracy.items()}
    assert gate.figure == pytest.approx(nme["qat"] - nme["student"])
    report = json.loads((context.run / "report.json").read_text())
    assert [network["role"] for network in report["networks"]] == ["baseline", "student"]


def test_names_and_keys(run: tuple[Context, RunResult]):
    context, result = run
    assert network_names(context) == ["tolerant", "tough", "student", "qat"]
    again = train_networks(Context(context.recipe, context.data, context.run, progress=False), ["qat"])
    assert again["qat"].key == result.networks[1].done.key


def test_a_killed_training_goes_on_as_if_nothing_had_happened(
    run: tuple[Context, RunResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    context, result = run
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages" / result.networks[0].done.path.name).symlink_to(result.networks[0].done.path)
    other = Context(context.recipe, context.data, tmp_path, progress=False)

    def killed(module: Any, *arguments: Any, **settings: Any) -> None:
        def stop() -> None:
            if module.current_epoch == 1:
                raise KeyboardInterrupt

        module.on_train_epoch_start, begin = (lambda: (stop(), begin())), module.on_train_epoch_start
        run_loop(module, *arguments, **settings)

    monkeypatch.setattr(fit, "run_loop", killed)
    with pytest.raises(KeyboardInterrupt):
        train_networks(other, ["qat"])
    monkeypatch.setattr(fit, "run_loop", run_loop)
    again = train_networks(other, ["qat"])["qat"].path
    first, second = (load_file(path / WEIGHTS) for path in (result.networks[1].done.path, again))
    assert all(bool((first[name] == second[name]).all()) for name in first)


def test_pruned_and_then_trained_for_8_bits(drawn_folder: Path, tmp_path: Path):
    pruned = {"options": {"keep_flops": 0.7, "round_to": 4, "batches": 1}, "train": {**SHORT, "epochs": 1}}
    context = Context(recipe(prune=pruned), drawn_folder, tmp_path, progress=False)
    found = train_networks(context, ["qat"])
    cut, tuned = (load_file(next((tmp_path / "stages").glob(f"{name}-*")) / WEIGHTS) for name in ("pruned", "qat"))
    assert {name: tensor.shape for name, tensor in cut.items()} == {n: t.shape for n, t in tuned.items()}
    assert list(found) == ["qat"]


def test_settings_are_refused_before_anything_is_trained(drawn_folder: Path, tmp_path: Path):
    for options, words in (({"momentun": 0.1}, "momentum"), ({"keep_float": ["features.77"]}, "features")):
        spec: Any = {"options": options, "train": SHORT}
        with pytest.raises(ConfigError, match=words):
            train_networks(Context(recipe(qat=spec), drawn_folder, tmp_path, progress=False))
    assert not list((tmp_path / "stages").glob("*"))
    with pytest.raises(ConfigError, match="qat"):
        qat_config(QatSpec(options={"bits": 4}, train=recipe().student.train))
