"""A reader who types the commands of the documents."""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from tests.support.commands import Started, run_command

ROOT = Path(__file__).resolve().parents[2]
COMMANDS_OF_A_PAGE = ""  # the kind of a block that names none
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SERVERS = ("practice.alpaca_server", "practice.kalshi_server")
STARTING = 600.0  # seconds: a server may compile first, beside other tests
PORTS = ("8000", "8001")  # that a page names; that of an account's page is its default

# A page whose commands are of an account has one at a practice server; these words say so.
AT_THE_SERVER: Final = ("forecaster=ewma", "broker.url_override={venue}")
BESIDE: Mapping[str, tuple[str, ...]] = {
    "venue=probe": (*AT_THE_SERVER, "probe.symbol=NVDA", "probe.max_order=1000"),
    "-m execution.doctor": AT_THE_SERVER,
    "trade_stock_e2e.py preview": AT_THE_SERVER,
    "trade_stock_e2e.py mode=paper": (*AT_THE_SERVER, "cycles=1"),
}
# These need what no test has: the test that runs them against a server of its own.
INSTEAD: Mapping[str, str] = {
    "-m trainingdata.download": "tests/e2e/test_download.py",
    "-m option_spreads.sell": "tests/e2e/selling_schedule.py",
    "-m marketsimulator.drift": "tests/e2e/test_drift.py",
    "account=venue": "tests/e2e/wire/test_stress_account.py",
    "-m tools.train_checkpoint": "tests/forecasting/test_weights.py",
    "-m event_contracts.trade": "tests/e2e/wire/test_trade_kalshi.py",
}
ENDS: Mapping[str, set[int]] = {
    "-m execution.doctor": {0, 1},
    "-m execution.live kill": {0, 2},
    "-m execution.live flatten": {2},  # no loop runs
}


def blocks(page: str, kind: str) -> list[str]:
    """The blocks of a page that are of a kind."""
    found = BLOCK.findall((ROOT / f"{page}.md").read_text())
    return [text for each, text in found if each == kind]


def lines_of(page: str) -> list[str]:
    """The lines that a reader types, those that end with a backslash joined."""
    joined = (re.sub(r"\\\n\s*", "", text) for text in blocks(page, COMMANDS_OF_A_PAGE))
    return [line.split("   #")[0].strip() for text in joined for line in text.splitlines()]


def entry(mapping: Mapping[str, object], line: str) -> str | None:
    """The key of a mapping that a line has within."""
    return next((key for key in mapping if key in line), None)


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
            server.wait_for_output(STARTING)
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
