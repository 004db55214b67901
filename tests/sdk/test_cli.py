import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from bundle_factory import make_bundle, picture
from PIL import Image
from typer.testing import CliRunner, Result

from pocketface.sdk import cli

MAIN = "from pocketface.sdk.cli import main; main()"
HEAVY = ("torch", "onnxruntime", "lightning", "matplotlib", "ai_edge_litert", "coremltools", "onnx", "scipy")

PLUGIN = '''
"""A command of another package."""
import typer

def greet(name: str, times: int = 1) -> None:
    """Say hello."""
    print(f"hello {name}" * times)

def code(number: int) -> None:
    """End with a code."""
    raise typer.Exit(number)

def gate() -> None:
    """A gate fails."""
    from pocketface.sdk.errors import GateFailedError
    raise GateFailedError("NME 5.3", expected="at most 5.0", next="keep more layers\\nin float")

def stop() -> None:
    """Ctrl-C."""
    raise KeyboardInterrupt

def full() -> None:
    """The disk is full."""
    raise OSError(28, "No space left on device", "some/file")

def odd() -> None:
    """Another system error."""
    raise OSError(5, "Input/output error")

def bug() -> None:
    """A defect."""
    raise ZeroDivisionError("ours")

def pipe() -> None:
    """The reader goes away."""
    raise BrokenPipeError(32, "Broken pipe")

several = typer.Typer(help="Several at once.")

@several.command()
def one() -> None:
    """The first."""
    print("one")

@several.command()
def two() -> None:
    """The second."""
'''


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "pf_cli_plugin.py").write_text(PLUGIN)
    (tmp_path / "pf_cli_needs.py").write_text("import package_that_nobody_has\n")
    names = ["greet", "code", "gate", "stop", "full", "odd", "bug", "pipe", "several"]
    points = [EntryPoint(name, f"pf_cli_plugin:{name}", cli.GROUP) for name in names]
    points += [
        EntryPoint("needs", "pf_cli_needs:x", cli.GROUP),
        EntryPoint("bench", "pocketface.benchmarks.no_such_module:x", cli.GROUP),
        EntryPoint("run", "pf_cli_needs:x", cli.GROUP),
    ]
    monkeypatch.setattr(cli, "entry_points", lambda group: points if group == cli.GROUP else [])
    yield
    sys.modules.pop("pf_cli_plugin", None)


def call(*words: str) -> Result:
    return CliRunner().invoke(cli.app, list(words))


def python(code: str, *words: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, **options)  # type: ignore[call-overload]


@pytest.mark.usefixtures("plugins")
class TestPlugins:
    def test_help_lists_every_command_with_its_line(self) -> None:
        shown = call("--help").stdout
        for line in ("Find the landmarks", "Say hello.", "The disk is full.", "Several at once."):
            assert line in shown
        assert "needs" in shown
        assert "cannot be loaded" in shown
        assert (
            shown.index("\n  inspect ") < shown.index("\n  bug ") < shown.index("\n  code ")
        )  # own first, then by name

    def test_a_command_takes_its_arguments_and_has_its_own_help(self) -> None:
        assert call("greet", "you", "--times", "2").stdout == "hello youhello you\n"
        assert "Say hello." in call("greet", "--help").stdout
        result = call("greet")
        assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
        assert "Try pocketface greet --help" in result.stderr

    def test_a_command_may_have_subcommands(self) -> None:
        assert call("several", "one").stdout == "one\n"
        assert "The second." in call("several", "--help").stdout

    def test_own_commands_cannot_be_replaced(self) -> None:
        assert "Find the landmarks" in call("run", "--help").stdout

    @pytest.mark.parametrize("words", [["needs"], ["needs", "--help"], ["needs", "--data", "x", "y"]])
    def test_a_command_that_cannot_be_loaded_says_so_when_it_is_used(self, words: list[str]) -> None:
        result = call(*words)
        assert result.exit_code == 3
        assert "command 'needs' cannot be loaded (No module named 'package_that_nobody_has')" in result.stderr

    def test_a_module_of_ours_that_is_missing_is_not_called_a_missing_extra(self) -> None:
        result = call("bench")
        assert result.exit_code == 3
        assert "no_such_module" in result.stderr
        assert "extra" not in result.stderr

    @pytest.mark.parametrize(
        ("words", "code", "line"),
        [
            (["gate"], 1, "pocketface: NME 5.3, expected at most 5.0. Keep more layers in float.\n"),
            (["stop"], 130, "pocketface: interrupted\n"),
            (["full"], 3, "pocketface: some/file: cannot write, the disk is full. Free some space and run again.\n"),
            (["pipe"], 141, ""),
            (["code", "0"], 0, ""),
            (["code", "1"], 1, ""),
            (["greet", "x", "--times", "0"], 0, ""),
        ],
    )
    def test_exit_codes_and_lines(self, words: list[str], code: int, line: str) -> None:
        result = call(*words)
        assert (result.exit_code, result.stderr) == (code, line)

    def test_a_defect_of_ours_shows_in_full(self) -> None:
        assert isinstance(call("bug").exception, ZeroDivisionError)
        assert isinstance(call("odd").exception, OSError)

    def test_unknown_command_suggests_the_nearest_of_all(self) -> None:
        result = call("greeet")
        assert result.exit_code == 2
        assert "unknown command 'greeet' (did you mean 'greet'?). Valid: bench, bug" in result.stderr


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    class Point(EntryPoint):
        def load(self) -> object:
            raise ModuleNotFoundError("No module named 'matplotlib'", name="matplotlib")

    monkeypatch.setattr(
        cli, "entry_points", lambda group: [Point("bench", "pocketface.benchmarks.commands:bench", group)]
    )
    assert "(needs the extra 'bench')" in call("--help").stdout
    result = call("bench", "B", "--help")
    assert result.exit_code == 3
    assert "command 'bench' needs the extra 'bench' (No module named 'matplotlib')" in result.stderr
    assert "Install it: pip install 'pocketface[bench]'" in result.stderr


def test_no_arguments_show_the_help() -> None:
    result = call()
    assert result.exit_code == 2
    assert "Commands:" in result.output


def test_version() -> None:
    from importlib.metadata import version

    assert call("--version").stdout == f"pocketface {version('pocketface')}\n"


def test_importing_the_sdk_and_asking_for_help_load_nothing_heavy() -> None:
    code = f"import sys, pocketface.sdk; print(sorted(set(sys.modules) & set({HEAVY!r} + ('rich', 'typer'))))"
    assert python(code).stdout == "[]\n"
    code = (
        "import sys\nfrom pocketface.sdk.cli import main\ntry:\n    main()\nfinally:\n"
        f"    print('HEAVY', sorted(set(sys.modules) & set({HEAVY!r})))"
    )
    shown = python(code, "--help").stdout
    assert shown.endswith("HEAVY []\n")
    for name in ("run", "inspect", "doctor", "eval", "bench", "schemes", "synth", "verify", "compress", "ablate"):
        assert f"\n  {name} " in shown


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("cli")
    make_bundle(place / "bundle", size=16)
    Image.fromarray(picture()).save(place / "photo.png")
    return place


def test_run_in_a_process_of_its_own(made: Path) -> None:
    words = ["--bundle", "bundle", "--whole", "--out", "out.png", "--json", "out.json"]
    done = python(MAIN, "run", "photo.png", *words, cwd=made)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("face 1: 68 points")
    assert (made / "out.png").exists()
    done = python(MAIN, "run", "nothing.png", "--bundle", "bundle", cwd=made)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "pocketface: nothing.png: no such file, expected an image file. Check the path.\n"


def test_run_needs_no_torch_even_when_it_runs(made: Path) -> None:
    code = (
        "import sys\nsys.modules['torch'] = None\nfrom pocketface.sdk.cli import main\ntry:\n    main()\nfinally:\n"
        "    print('SEEN', sorted(m for m in sys.modules if m.split('.')[:2] in "
        "(['pocketface', 'benchmarks'], ['pocketface', 'converters'], ['pocketface', 'compression'])))"
    )
    done = python(code, "run", "photo.png", "--bundle", "bundle", cwd=made)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("SEEN []\n")


def to(descriptor: int, words: list[str], folder: Path) -> subprocess.CompletedProcess[bytes]:
    """Run with standard output there, buffered as users have it."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    command = [sys.executable, "-c", MAIN, *words]
    return subprocess.run(command, stdout=descriptor, stderr=subprocess.PIPE, cwd=folder, env=env)


@pytest.mark.parametrize("words", [["inspect", "bundle"], ["run", "photo.png", "--bundle", "bundle"], ["--help"]])
def test_a_reader_that_goes_away_leaves_no_traceback(made: Path, words: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = to(writer, words, made)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize("words", [["inspect", "bundle", "--json", "-"], ["run", "photo.png", "--bundle", "bundle"]])
def test_a_full_disk_on_standard_output(made: Path, words: list[str]) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    with open("/dev/full", "w") as target:
        done = to(target.fileno(), words, made)
    assert done.returncode == 3
    assert done.stderr == b"pocketface: the disk: cannot write, the disk is full. Free some space and run again.\n"


def test_fatal_errnos_are_what_they_say() -> None:
    assert set(cli._FATAL_ERRNOS) == {errno.ENOSPC, errno.EROFS, errno.EDQUOT}


@pytest.mark.parametrize("line", [["--debug", "inspect", "nowhere"], ["inspect", "nowhere", "--debug"]])
def test_debug_shows_where_an_error_came_from(line, capsys):
    for words, shown in ((line, True), ([word for word in line if word != "--debug"], False)):
        with pytest.raises(SystemExit) as caught:
            cli.app(words)
        assert caught.value.code == 2
        text = capsys.readouterr().err
        assert ("Traceback" in text) == shown
        assert text.splitlines()[-1].startswith("pocketface: nowhere: no such bundle")
