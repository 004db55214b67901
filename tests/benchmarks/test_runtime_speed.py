import json
from pathlib import Path

import numpy as np
import pytest
from bundle_factory import make_bundle

from pocketface.benchmarks import runtime_speed as speed


def test_cases_take_turns_in_an_order_drawn_anew() -> None:
    ran: list[str] = []
    spent = speed.taking_turns({"a": lambda: ran.append("a"), "b": lambda: ran.append("b")}, rounds=30, seed=3)
    assert set(spent) == {speed.KERNEL, "a", "b"}
    rounds = ["".join(ran[start : start + 2]) for start in range(0, len(ran), 2)]
    assert len(rounds) == 32
    assert set(rounds) == {"ab", "ba"}
    assert 0 < spent["a"].least_ms <= spent["a"].median_ms


def test_resident_memory_grows_with_what_is_held() -> None:
    pytest.importorskip("resource")
    if not Path("/proc/self/statm").exists():
        pytest.skip("only Linux tells")
    before = speed.resident_mb()
    held = np.ones(30_000_000, np.uint8)
    assert speed.resident_mb() - before == pytest.approx(30, abs=12)
    assert held.any()


def test_the_command_measures_everything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    words = [str(bundle), "--rounds", "1", "--frames", "200", "--imports", "1", "--json"]
    assert speed.main([*words, str(tmp_path / "speed.json")]) == 0
    found = json.loads((tmp_path / "speed.json").read_text())
    assert {f"pre {size} px, side {side}, 20 degrees" for size in speed.SIZES for side in speed.SIDES} <= set(
        found["cases"]
    )
    assert {"post", speed.KERNEL, "overlays in place"} <= set(found["cases"])
    assert [item["frame"] for item in found["memory"]] == [100, 120, 140, 160, 180, 200]
    assert found["imports"]["pocketface.sdk"]["cpu_s"] > 0
    assert "import pocketface.sdk" in capsys.readouterr().out
    assert speed.main([*words, str(tmp_path / "speed.json")]) == 2
    assert "exists already" in capsys.readouterr().err
