"""What README and the guides tell a reader to type runs as written, in the order it is read.

A page is a folder of its own. What the reader has and a test has not (an account at a venue, an
index of packages) is said in `BESIDE` and `INSTEAD`, and nowhere else.
"""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import pandas as pd
import pytest

from examples.make_bars import random_bars, starts_of_stock_bars
from kelly_chronos import COMMANDS
from tests.commands import Started, run_command

ROOT = Path(__file__).resolve().parents[2]
GUIDES = ("BACKTEST", "FORECASTS", "KALSHI", "OPERATIONS", "SPREADS", "VENUE")
PAGES = ("README", *(f"docs/{name}" for name in GUIDES))
FENCE = re.compile(r"^```(?:sh)?\n(.*?)^```", re.MULTILINE | re.DOTALL)
SERVERS = (
    "marketsimulator.alpaca_server",
    "event_contracts.practice_server",
    "execution.live serve",
)
PORTS = ("8000", "8001")  # that a page names; that of an account's page is its default

# A page whose commands are of an account has one at a practice server; these words say so.
AT_THE_SERVER: Final = ("forecaster=ewma", "broker.url_override={venue}")
BESIDE: Mapping[str, tuple[str, ...]] = {
    "-m execution.doctor": AT_THE_SERVER,
    "trade_stock_e2e.py quantity": AT_THE_SERVER,
    "trade_stock_e2e.py preview": AT_THE_SERVER,
    "trade_stock_e2e.py mode=paper": (*AT_THE_SERVER, "cycles=1"),
}
# These need what no test has: the test that runs them against a server of its own.
INSTEAD: Mapping[str, str] = {
    "-m trainingdata.download": "tests/e2e/test_download.py",
    "-m option_spreads.sell": "tests/e2e/selling_schedule.py",
    "-m marketsimulator.drift": "tests/e2e/test_drift.py",
    "-m tools.train_checkpoint": "tests/forecasting/test_weights.py",
    "-m event_contracts.trade": "tests/e2e/test_trade_kalshi.py",
}
ENDS: Mapping[str, set[int]] = {"-m execution.doctor": {0, 1}, "-m execution.live kill": {0, 2}}


def lines_of(page: str) -> list[str]:
    """The lines that a reader types, those that end with a backslash joined."""
    text = (ROOT / f"{page}.md").read_text()
    blocks = (re.sub(r"\\\n\s*", "", block) for block in FENCE.findall(text))
    typed = (line.split("   #")[0].strip() for block in blocks for line in block.splitlines())
    first = (".venv/bin/", "make ", "export ", "curl ", "kill ")
    return [line for line in typed if line.startswith(first)]


def entry(mapping: Mapping[str, object], line: str) -> str | None:
    """The key of a mapping that a line has within."""
    return next((key for key in mapping if key in line), None)


@contextmanager
def account(folder: Path) -> Iterator[str]:
    """An Alpaca to practise on, with the symbols of the guides: its address."""
    bars = folder / "venue-bars"
    bars.mkdir()
    for seed, symbol in enumerate(("NVDA", "BTCUSD", "ACME", "ZINC", "TOYUSD")):
        starts = starts_of_stock_bars()
        if symbol.endswith("USD"):
            starts = pd.date_range(starts[0].tz_convert("UTC").floor("D"), periods=2000, freq="h")
        random_bars(starts, 100.0, seed).to_csv(bars / f"{symbol}.csv", index=False)
    words = ["-m", "marketsimulator.alpaca_server", "--data-dir", str(bars), "--port", "0"]
    server = Started([*words, "--start", "2024-03-18"], cwd=folder, env=environment(folder))
    try:
        server.wait_for_output(120.0)
        yield server.output.partition(": ")[0]
    finally:
        server.kill()


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def environment(folder: Path) -> dict[str, str]:
    own = {"XDG_STATE_HOME": str(folder / "state"), "XDG_CACHE_HOME": str(folder / "cache")}
    keys = {name: "KEY-OF-A-READER" for name in ("APCA_API_KEY_ID", "APCA_API_SECRET_KEY")}
    return {**os.environ, **own, **keys, "COLUMNS": "160"}


class Reader:
    """Types one line after the other in a folder.

    folder: where.
    venue: address of the account's venue.
    """

    def __init__(self, folder: Path, venue: str) -> None:
        self.folder = folder
        self.venue = venue
        self.ports = {port: str(free_port()) for port in PORTS}
        self.servers: list[Started] = []
        self.printed = ""
        self.environment = environment(folder)

    def type(self, line: str) -> None:
        for named, free in self.ports.items():
            line = line.replace(f":{named}", f":{free}").replace(
                f"--port {named}", f"--port {free}"
            )
        words = shlex.split(line)
        if line.startswith("make "):
            target = words[1]
            assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
        elif line.startswith("export "):
            pairs = [word.split("=", 1) for word in words[1:]]
            self.environment |= {name: value for name, value in pairs if "…" not in value}
        elif words[0].endswith("/pip"):
            extra = re.findall(r"\[(\w+)\]", line)[0]
            project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
            assert extra in project["optional-dependencies"]
        elif (name := entry(INSTEAD, line)) is not None:
            module = name.removeprefix("-m ").rpartition(".")[2]
            assert module in (ROOT / INSTEAD[name]).read_text()
        elif any(server in line for server in SERVERS):
            server = Started(words[1:], cwd=self.folder, env=self.environment)
            self.servers.append(server)
            server.wait_for_output(120.0)
            assert server.running, server.errors
        else:
            self.run(line, words)

    def run(self, line: str, words: list[str]) -> None:
        added = entry(BESIDE, line)
        if added is not None and "broker.url_override" not in line:
            told = [word.format(venue=self.venue) for word in BESIDE[added]]
            names = {word.split("=")[0] for word in told}
            words = [word for word in words if word.split("=")[0] not in names] + told
        program = Path(words[0]).name
        if program == "python":
            done = run_command(words[1:], cwd=self.folder, env=self.environment)
        else:
            beside = Path(sys.executable).with_name(program)
            words[0] = str(beside) if beside.exists() else words[0]
            done = subprocess.run(
                words, cwd=self.folder, env=self.environment, capture_output=True, text=True,
                check=False,
            )  # fmt: skip
        self.printed += done.stdout
        expected = ENDS.get(entry(ENDS, line) or "", {0})
        assert done.returncode in expected, f"{line}\n{done.stdout[-600:]}\n{done.stderr[-600:]}"
        assert "Traceback" not in done.stderr

    def end(self) -> None:
        for server in self.servers:
            with suppress(OSError):
                server.kill()


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_a_page_runs_in_the_order_it_is_read(page: str, tmp_path: Path) -> None:
    lines = lines_of(page)
    assert lines, f"{page} has no command"
    for name in ("examples", "configs", "marketsimulator", "trainingdata", "trade_stock_e2e.py"):
        (tmp_path / name).symlink_to(ROOT / name)
    with account(tmp_path) as venue:
        reader = Reader(tmp_path, venue)
        try:
            for line in lines:
                reader.type(line)
        finally:
            reader.end()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("page", "prints"),
    [("README", r"[+-]\d+\.\d\d%\n"), ("docs/FORECASTS", r" +symbol +timestamp")],
)
def test_the_lines_of_python_on_a_page_run(page: str, prints: str, tmp_path: Path) -> None:
    text = (ROOT / f"{page}.md").read_text()
    (code,) = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    make = next(line for line in lines_of(page) if "make_bars" in line)
    for name in ("examples", "forecasting"):
        (tmp_path / name).symlink_to(ROOT / name)
    assert run_command(shlex.split(make)[1:], cwd=tmp_path).returncode == 0
    (tmp_path / "own.py").write_text(code)
    done = run_command(["own.py"], cwd=tmp_path, env=environment(tmp_path))
    assert done.returncode == 0, done.stderr
    assert re.match(prints, done.stdout)


def test_every_command_that_a_page_names_is_there() -> None:
    """Also within sentences and tables."""
    named: dict[str, str] = {}
    for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for module in re.findall(r"python -m ([\w.]+)", path.read_text()):
            named[module] = path.name
    studies = {f"studies.{path.stem}" for path in (ROOT / "studies").glob("*.py")}
    known = {*COMMANDS.values(), "tools.mutants.measure", "tools.train_checkpoint", *studies}
    assert {module: page for module, page in named.items() if module not in known} == {}


def test_the_readme_is_short_and_every_page_it_names_is_there() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(text.split()) <= 1000
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"), ROOT / "examples/README.md"):
        for target in re.findall(r"\]\((?!http)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
