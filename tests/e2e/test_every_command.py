"""What every command promises from its first moment on, over one list of all of them."""

from __future__ import annotations

import ast
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from foundation import PACKAGES
from foundation.cli import Command, read_module_docstring
from foundation.plugin import merge_product_tables
from tests.e2e.refused import answer_of, refusal_of
from tests.support.commands import Started
from tests.support.messages import check_message

ROOT = Path(__file__).resolve().parent.parent.parent
ROOMS = tuple(room for room in PACKAGES if room != "foundation")
EVERY: list[Command] = sorted(
    merge_product_tables("COMMANDS").values(), key=lambda command: str(command.module)
)
MOST_MODULES = 200  # of Python itself, for a help: an interpreter begins with some seventy
HEAVY = {"torch", "numba", "pandas", "hydra", "numpy", "alpaca", "omegaconf", "rich"}

START = "run_command"

every_command = pytest.mark.parametrize("command", EVERY, ids=lambda command: command.module)


def source_of(module: str) -> Path:
    path = ROOT / module.replace(".", "/")
    return path / "__main__.py" if path.is_dir() else path.with_suffix(".py")


def flags_of(module: str) -> set[str]:
    """What the command's parser takes."""
    text = source_of(module).read_text()
    if "add_serving_flags" in text:
        text += (ROOT / "practice" / "serving.py").read_text()
    return set(re.findall(r'add_argument\(\s*"(--[\w-]+)"', text))


def test_all_commands_are_registered_and_few_are_listed() -> None:
    files = [path for room in ROOMS for path in (ROOT / room).rglob("*.py")]
    files.append(ROOT / "trade_stock_e2e.py")
    starts = {path: re.findall(rf'\n    {START}\("(.+?)"', path.read_text()) for path in files}
    started = {module for modules in starts.values() for module in modules}
    assert started == {command.module for command in EVERY}
    earlier = {path for path, modules in starts.items() if modules} - {*map(source_of, started)}
    assert {path.stem for path in earlier} == {"alpaca_server", "practice_server"}
    assert sum(command.is_listed for command in EVERY) <= 28


@every_command
def test_command_module_calls_start_function_exactly_once(command: Command) -> None:
    """`start` returns after the work, so a second call would do all of it again."""
    assert source_of(command.module).read_text().count(f'    {START}("') == 1


@every_command
def test_command_module_starts_cli_before_other_imports(command: Command) -> None:
    """The command reports itself at once, and its help needs no library."""
    body = ast.parse(source_of(command.module).read_text()).body
    guard = next(number for number, node in enumerate(body) if isinstance(node, ast.If))
    before = {node.module for node in body[:guard] if isinstance(node, ast.ImportFrom)}
    assert before == {"__future__", "foundation.cli"}
    assert not any(isinstance(node, ast.Import) for node in body[:guard])
    assert ast.unparse(body[guard]) == (
        f"if __name__ == '__main__':\n    {START}('{command.module}')"
    )


FIRST_WORDS = """
import json, os, runpy, sys
for number, words in enumerate(json.loads(sys.argv[1])):
    if os.fork() == 0:
        sys.stdout = sys.stderr = open(f"said-{number}", "w")
        sys.argv = words
        try:
            runpy.run_module(words[0], run_name="__main__", alter_sys=True)
        except SystemExit as end:
            sys.stdout.close()
            json.dump([end.code or 0, *sys.modules], open(f"loaded-{number}", "w"))
        os._exit(0)
    os.wait()
    import hydra, pydantic  # which help, the first of them, does without
"""
WRONG = {
    "marketsimulator.backtest": "limits.symbol_cap=9",
    "event_contracts.trade": "limits.share=2",
    "option_spreads.backtest": "rules.entry_minutes=[x]",
}
HELP = "trade_stock_e2e"


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str, set[str]]]:
    """How commands end in an interpreter that has loaded nothing yet, by their names: the exit
    code, what is said, and what is loaded then.
    """
    folder = tmp_path_factory.mktemp("ended")
    each = [[HELP, "--help"], *map(list, WRONG.items())]
    command = [sys.executable, "-c", FIRST_WORDS, json.dumps(each)]
    subprocess.run(command, cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True)
    found = {}
    for number, (name, *_) in enumerate(each):
        code, *loaded = json.loads((folder / f"loaded-{number}").read_text())
        found[name] = (code, (folder / f"said-{number}").read_text(), set(loaded))
    return found


@pytest.mark.wire
def test_help_imports_no_heavy_library(ended: dict[str, tuple[int, str, set[str]]]) -> None:
    """One command stands for all: each answers `--help` before it imports its own modules."""
    code, said, loaded = ended[HELP]
    assert code == 0, said
    assert "foundation.cli" in loaded
    assert loaded & HEAVY == set()
    assert len(loaded) < MOST_MODULES


@pytest.mark.wire
@pytest.mark.parametrize("name", WRONG)
def test_wrong_value_is_refused_before_heavy_imports(
    ended: dict[str, tuple[int, str, set[str]]], name: str
) -> None:
    code, said, loaded = ended[name]
    assert code == 2
    [line] = said.splitlines()
    assert line.startswith(f"error: {WRONG[name].partition('=')[0]}")
    assert loaded & {"torch", "numba", "pandas", "scipy.stats", "alpaca", "rich"} == set()


@pytest.mark.first_example
@every_command
def test_help_shows_flags_and_cfg_option_shows_settings(command: Command, tmp_path: Path) -> None:
    code, shown, said = answer_of(command.module, "-h", cwd=tmp_path)
    assert (code, said) == (0, "")
    assert shown.startswith(read_module_docstring(command.module).splitlines()[0])
    name = re.escape(command.module)
    script = re.escape(str(source_of(command.module).relative_to(ROOT)))
    assert re.search(rf"python (-m {name}|{script})\b", shown)
    assert {flag for flag in flags_of(command.module) if flag not in shown} == set()
    assert ("--cfg job" in shown) == (command.config is not None)
    code, shown, said = answer_of(command.module, "--cfg", "job", cwd=tmp_path)
    assert (code, said) == (0, "")
    assert (yaml.safe_load(shown) == {}) == (command.config is None)
    assert list(tmp_path.iterdir()) == []


def test_cfg_output_of_preview_command_shows_preview_mode(tmp_path: Path) -> None:
    words = ("preview", "mode=paper", "--cfg=job")
    settings = yaml.safe_load(answer_of("trade_stock_e2e", *words, cwd=tmp_path)[1])
    assert settings["mode"] == "preview"


@pytest.mark.parametrize(
    ("command", "library", "extra"),
    [
        ("option_spreads.monte_carlo", "matplotlib", "pictures"),
        ("event_contracts.train", "gymnasium", "rl"),
        ("marketsimulator.search", "optuna", "search"),
    ],
)
def test_missing_optional_library_is_named_with_its_extra(
    command: str, library: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    check_message(refusal_of(command), library, command, f"'.[{extra}]'")


@pytest.mark.wire
@pytest.mark.first_example
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_command_interrupted_while_loading_exits_with_a_message(number: signal.Signals) -> None:
    code = (
        "import os, sys; from foundation import cli as command;"
        f"command._run_module_name = lambda name: os.kill(os.getpid(), {int(number)});"
        f"command.{START}('marketsimulator.explain')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 128 + number
    assert done.stderr == "interrupted: nothing was started\n"


@pytest.mark.wire
@pytest.mark.first_example
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_interrupted_run_leaves_no_output(tmp_path: Path, number: signal.Signals) -> None:
    words = ["-m", "marketsimulator.backtest", "forecaster.cache=null", "trials=null"]
    words += ["symbols=[SYA]", "start=2024-05-01"]
    run = Started([*words, "output=here/out"], cwd=tmp_path)
    deadline = time.monotonic() + 120
    while run.running and not re.search(r"\d of \d", run.errors):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(run.pid, number)
    done = run.wait()
    assert done.returncode == 128 + number, done.stderr
    assert done.stderr.splitlines()[-1] == "interrupted: nothing was written"
    assert not (tmp_path / "here" / "out").exists()


HISTORY = ["--symbols", "BTCUSD", "--start", "2024-01-02"]
TRADES = "Timestamp_ET,Trade_ID,Strategy,Entry_Credit,Position_Size,P/L_$\n"


@pytest.mark.first_example
@pytest.mark.parametrize(
    "words",
    [
        ["marketsimulator.backtest", "output=out"],
        ["marketsimulator.backtest_kelly_chronos2", "--output", "out"],
        ["marketsimulator.compare", "output=out"],
        ["marketsimulator.compare", "a", "b", "output=out"],
        ["marketsimulator.stress", "a", "output=out"],
        ["marketsimulator.tearsheet", "a.csv", "output=out"],
        ["marketsimulator.prove", "a.csv", "output=out"],
        ["forecasting.evaluate", "output=out"],
        ["option_spreads.monte_carlo", "trades=trades.csv", "output=out"],
        ["option_spreads.backtest", "output=out"],
        ["event_contracts.compare", "output=out"],
        ["event_contracts.train", "output=out"],
        ["trainingdata.download", *HISTORY, "--output", "out"],
    ],
    ids=lambda words: words[0],
)
def test_output_folder_with_foreign_files_is_refused(words: list[str], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    (tmp_path / "trades.csv").write_text(
        TRADES + "2024-01-02 10:00,1,PUT,2.5,1,100\n2024-01-03 10:00,2,PUT,2.5,1,-50\n"
    )
    before = sorted(tmp_path.rglob("*"))
    check_message(refusal_of(*words, cwd=tmp_path), "notes.txt", "overwrite=true")
    assert sorted(tmp_path.rglob("*")) == before
