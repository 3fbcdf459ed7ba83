"""What every command promises from its first moment on, over one list of all of them."""

from __future__ import annotations

import ast
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from foundation import executed
from kelly_chronos import COMMANDS
from tests.commands import Started, run_command

ROOT = Path(__file__).resolve().parent.parent.parent
ROOMS = tuple(room for room in executed.ROOMS if room != "foundation")
EVERY = sorted([*COMMANDS.values(), "marketsimulator.backtest_kelly_chronos2"])
MOST_MODULES = 200  # of Python itself, for a help: an interpreter begins with some seventy
HEAVY = {"torch", "numba", "pandas", "hydra", "numpy", "alpaca", "omegaconf"}
WITHOUT_SETTINGS = {
    "execution.explain",
    "forecasting.cache",
    "forecasting.train",
    "marketsimulator.compare",
    "trainingdata.build_correlation_matrix_from_csvs",
}


def source_of(command: str) -> Path:
    path = ROOT / command.replace(".", "/")
    return path / "__main__.py" if path.is_dir() else path.with_suffix(".py")


def flags_of(command: str) -> set[str]:
    """What the command's parser takes."""
    text = source_of(command).read_text()
    if "add_serving_flags" in text:
        text += (ROOT / "marketsimulator" / "venue" / "serving.py").read_text()
    return set(re.findall(r'add_argument\(\s*"(--[\w-]+)"', text))


def test_the_list_has_every_command_there_is() -> None:
    files = [path for room in ROOMS for path in (ROOT / room).rglob("*.py")]
    files.append(ROOT / "trade_stock_e2e.py")
    runs = {
        path for path in files if '\nif __name__ == "__main__":\n    main()' in path.read_text()
    }
    assert runs == {source_of(command) for command in EVERY}


@pytest.mark.parametrize("command", EVERY)
def test_a_command_opens_before_it_imports_anything_else(command: str) -> None:
    """So that its word is on the terminal at once, and its help needs no library."""
    body = ast.parse(source_of(command).read_text()).body
    guard = next(number for number, node in enumerate(body) if isinstance(node, ast.If))
    before = {node.module for node in body[:guard] if isinstance(node, ast.ImportFrom)}
    assert before <= {"__future__", "foundation.opening", "execution.live.words"}
    assert not any(isinstance(node, ast.Import) for node in body[:guard])
    assert ast.unparse(body[guard]).startswith(
        f"if __name__ == '__main__':\n    open_command('{command}', __doc__"
    )


@pytest.mark.first_example
@pytest.mark.parametrize("command", EVERY)
def test_help_is_quick_and_says_what_the_command_does_with_an_example(
    command: str, tmp_path: Path
) -> None:
    words = [sys.executable, "-X", "importtime", str(source_of(command)), "--help"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "foundation.opening" in loaded
    assert loaded & HEAVY == set()
    assert len(loaded) < MOST_MODULES
    docstring = ast.get_docstring(ast.parse(source_of(command).read_text()))
    assert docstring is not None
    assert done.stdout.startswith(docstring.splitlines()[0])
    script = source_of(command).relative_to(ROOT)
    assert re.search(rf"python (-m {re.escape(command)}|{re.escape(str(script))})\b", done.stdout)
    assert {flag for flag in flags_of(command) if flag not in done.stdout} == set()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.first_example
@pytest.mark.parametrize("command", EVERY)
def test_h_and_cfg_job_answer_and_write_nothing(command: str, tmp_path: Path) -> None:
    short = run_command(["-m", command, "-h"], cwd=tmp_path)
    assert (short.returncode, short.stderr) == (0, "")
    assert "--help" in short.stdout
    shown = run_command(["-m", command, "--cfg", "job"], cwd=tmp_path)
    assert (shown.returncode, shown.stderr) == (0, "")
    settings = yaml.safe_load(shown.stdout)
    assert (settings == {}) == (command in WITHOUT_SETTINGS)
    assert ("--cfg job" in short.stdout) == (command not in WITHOUT_SETTINGS)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("first", "now"),
    [
        ("sizing.contracts", "option_spreads.contracts"),
        ("marketsimulator.monte_carlo", "option_spreads.monte_carlo"),
    ],
)
def test_names_that_documents_give_start_the_commands_that_have_moved(
    first: str, now: str, tmp_path: Path
) -> None:
    answers = [run_command(["-m", name, "--cfg", "job"], cwd=tmp_path) for name in (first, now)]
    assert answers[0].returncode == 0
    assert answers[0].stdout == answers[1].stdout != ""


@pytest.mark.parametrize("words", [["marketsimulator.backtest"], ["execution.doctor"]])
def test_the_settings_are_shown_without_what_only_a_run_needs(words: list[str]) -> None:
    command = [sys.executable, "-X", "importtime", "-m", *words, "--cfg", "job", "capital=5"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert "capital: 5\n" in done.stdout
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "hydra" in loaded
    assert loaded & (HEAVY - {"hydra", "omegaconf"}) == set()


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["execution.quantity", "--cfg", "job", "capitol=5"], "capitol"),
        (["execution.quantity", "--cfg"], "--cfg"),
        (["execution.quantity", "--json", "--cfg", "job"], "--json"),
    ],
)
def test_settings_that_cannot_be_shown_are_one_line(
    words: list[str], named: str, tmp_path: Path
) -> None:
    done = run_command(["-m", *words], cwd=tmp_path)
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert named in line


def test_preview_is_shown_as_the_settings_that_it_stands_for(tmp_path: Path) -> None:
    script = str(ROOT / "trade_stock_e2e.py")
    done = run_command([script, "preview", "mode=paper", "--cfg=job"], cwd=tmp_path)
    settings = yaml.safe_load(done.stdout)
    assert (settings["mode"], settings["account"]["source"]) == ("dry", "venue")


@pytest.mark.parametrize(
    ("command", "library", "extra"),
    [
        ("option_spreads.monte_carlo", "matplotlib", "pictures"),
        ("option_spreads.backtest", "matplotlib", "pictures"),
        ("event_contracts.compare", "gymnasium", "rl"),
        ("event_contracts.train", "stable_baselines3", "rl"),
    ],
)
def test_a_library_that_a_first_backtest_does_without_is_named_with_what_installs_it(
    command: str, library: str, extra: str, tmp_path: Path
) -> None:
    script = tmp_path / "without.py"
    script.write_text(
        f"import runpy, sys\nsys.modules[{library!r}] = None\n"
        f"runpy.run_module({command!r}, run_name='__main__')\n"
    )
    done = run_command([str(script)], cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"error: {library} is not installed: {command} needs pip install 'kelly-chronos[{extra}]'\n"
    )


def test_a_terminal_has_a_word_before_the_libraries_are_there() -> None:
    ours, theirs = pty.openpty()
    words = [sys.executable, "-m", "forecasting.batch", "symbols=[NOBODY]"]
    with subprocess.Popen(words, cwd=ROOT, stderr=theirs, stdout=theirs) as process:
        os.close(theirs)
        assert select.select([ours], [], [], 60)[0]
        loaded = Path(f"/proc/{process.pid}/maps")
        maps = loaded.read_text() if loaded.exists() else ""
        shown = os.read(ours, 200)
        process.kill()
    os.close(ours)
    assert shown.startswith(b"forecasting.batch: loading")
    assert "numpy" not in maps


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_command_that_is_told_to_end_while_it_loads_says_so(number: signal.Signals) -> None:
    code = (
        "import os, sys; from foundation.opening import open_command;"
        f"open_command('a', 'b'); os.kill(os.getpid(), {int(number)})"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 128 + number
    assert done.stderr == "interrupted: nothing had begun\n"


@pytest.mark.parametrize("command", EVERY)
def test_every_command_ends_a_signal_as_it_ends_an_interruption(command: str) -> None:
    """Which `one_line_errors` and `hydra_command` do."""
    text = source_of(command).read_text()
    shared = "from marketsimulator.backtest import run_command"
    assert "with one_line_errors(" in text or shared in text


@pytest.mark.first_example
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_told_to_end_leaves_no_output(tmp_path: Path, number: signal.Signals) -> None:
    words = ["-m", "marketsimulator.backtest", "forecaster.cache=null", "trials=null"]
    run = Started([*words, "output=here/out"], cwd=tmp_path)
    deadline = time.monotonic() + 120
    while run.running and " of " not in run.errors:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(run.pid, number)
    done = run.wait()
    assert done.returncode == 128 + number, done.stderr
    assert done.stderr.splitlines()[-1] == "interrupted: nothing was written"
    assert not (tmp_path / "here" / "out").exists()


HOLDS = "out holds something else (notes.txt)"
HISTORY = ["--symbols", "BTCUSD", "--start", "2024-01-02"]
TRADES = "Timestamp_ET,Trade_ID,Strategy,Entry_Credit,Position_Size,P/L_$\n"


@pytest.mark.first_example
@pytest.mark.parametrize(
    "words",
    [
        ["marketsimulator.backtest", "output=out"],
        ["marketsimulator.backtest_kelly_chronos2", "--output", "out"],
        ["marketsimulator.sweep", "vary={sizing.fraction: [0.1]}", "output=out"],
        ["marketsimulator.compare_strategies", "output=out"],
        ["marketsimulator.compare", "a", "b", "--output", "out"],
        ["marketsimulator.stress", "a", "output=out"],
        ["forecasting.evaluate", "output=out"],
        ["option_spreads.monte_carlo", "trades=trades.csv", "output=out"],
        ["option_spreads.backtest", "output=out"],
        ["event_contracts.compare", "output=out"],
        ["event_contracts.paper_report", "journal=trades.csv", "output=out"],
        ["event_contracts.train", "output=out"],
        ["forecasting.train", "--output", "out"],
        ["trainingdata.download", *HISTORY, "--output", "out"],
    ],
    ids=lambda words: words[0],
)
def test_an_output_that_holds_something_else_is_refused(words: list[str], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    (tmp_path / "trades.csv").write_text(
        TRADES + "2024-01-02 10:00,1,PUT,2.5,1,100\n2024-01-03 10:00,2,PUT,2.5,1,-50\n"
    )
    before = sorted(tmp_path.rglob("*"))
    done = run_command(["-m", *words], cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    [line] = done.stderr.splitlines()
    assert HOLDS in line
    word = "--overwrite" if words[0] in WITHOUT_SETTINGS else "overwrite=true"
    assert line.endswith(f"say {word}")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.slow
def test_a_run_writes_again_what_an_earlier_one_wrote_and_beside_others_when_told(
    tmp_path: Path,
) -> None:
    words = ["forecaster=ewma", "start=2024-06-24", "symbols=[SYA]", "trials=null", "output=out"]
    command = ["-m", "marketsimulator.backtest", *words]
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    told = run_command([*command, "overwrite=true"], cwd=tmp_path)
    assert told.returncode == 0, told.stderr
    earlier = tmp_path / "out" / "summary.json"
    earlier.write_text(json.dumps({**json.loads(earlier.read_text()), "note": "of an earlier run"}))
    again = run_command(command, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "note" not in json.loads(earlier.read_text())
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"
    other = run_command([*command, "overwrite=perhaps"], cwd=tmp_path)
    assert "overwrite: 'perhaps' is neither true nor false" in other.stderr
    earlier.write_text("mine, too")
    kept = run_command(command, cwd=tmp_path)
    assert "out holds something else (a summary.json of another kind)" in kept.stderr
    assert earlier.read_text() == "mine, too"
