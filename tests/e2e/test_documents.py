"""What the pages tell a reader to type runs as written, in the order it is read.

A page is a folder of its own. What the reader has and a test has not (an account at a venue, an
index of packages) is listed in `BESIDE` and `INSTEAD` of `tests.support.documents`, and nowhere
else. A block of a page is of commands, which are run, of a kind that a test reads, or a drawing.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import fields
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from docs.settings_page import CLASSES
from examples.make_bars import random_bars, starts_of_stock_bars
from execution.live.settings import LiveSettings
from foundation.compose import compose_config
from foundation.settings import settings_class_in_annotation
from kelly_chronos import COMMANDS
from sizing.settings import Limits
from tests.support.commands import Started, run_command
from tests.support.documents import (
    BESIDE,
    BLOCK,
    COMMANDS_OF_A_PAGE,
    ROOT,
    STARTING,
    Reader,
    blocks,
    entry,
    environment,
    lines_of,
)
from trainingdata.source import DataSettings

PAGES = (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "examples" / "README.md")
OWN_TEST = {  # of a page's commands
    "docs/ORDER": "tests/e2e/wire/test_order_page.py",
    "examples/README": "tests/e2e/wire/test_examples.py",
}
DRAWING = "text"
READ = {  # kinds of blocks that a test reads, and on which pages
    "python": {"README", "docs/BACKTEST", "docs/FORECASTS"},
    "csv": {"docs/BACKTEST", "docs/FORECASTS"},
    "yaml": {"docs/MATH", "docs/OPERATIONS"},
    **{kind: {"docs/ORDER"} for kind in ("terminal", "log", "journal")},
}
TYPED = (".venv/bin/", "make ", "export ", "curl ", "kill ")


def name_of(page: Path) -> str:
    """As the tests name it, `docs/MATH`."""
    return page.relative_to(ROOT).with_suffix("").as_posix()


WITH_COMMANDS = sorted(name for name in map(name_of, PAGES) if lines_of(name))


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
    words = ["-m", "practice.alpaca_server", "--data-dir", str(bars), "--port", "0"]
    server = Started([*words, "--start", "2024-03-18"], cwd=folder, env=environment(folder))
    try:
        server.wait_for_output(STARTING)
        yield server.output.partition(": ")[0]
    finally:
        server.kill()


@pytest.mark.slow
@pytest.mark.parametrize("page", [name for name in WITH_COMMANDS if name not in OWN_TEST])
def test_documented_commands_succeed_in_page_order(page: str, tmp_path: Path) -> None:
    lines = lines_of(page)
    for name in ("examples", "configs", "marketsimulator", "trainingdata", "trade_stock_e2e.py"):
        (tmp_path / name).symlink_to(ROOT / name)
    for text in blocks(page, "yaml"):
        (tmp_path / "week.yaml").write_text(text)
    has_an_account = any(entry(BESIDE, line) for line in lines)
    with account(tmp_path) if has_an_account else nullcontext("") as venue:
        reader = Reader(tmp_path, venue)
        try:
            for line in lines:
                reader.type(line)
        finally:
            reader.end()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("page", "prints"),
    [
        ("README", r"[+-]\d+\.\d\d%\n"),
        ("docs/BACKTEST", r"Total return +[+-]?0\.\d+\n"),
        ("docs/FORECASTS", r" +symbol +timestamp"),
    ],
)
def test_python_code_blocks_in_documentation_run_without_error(
    page: str, prints: str, tmp_path: Path
) -> None:
    (code,) = blocks(page, "python")
    make = next(line for line in lines_of(page) if "make_bars" in line)
    for name in ("examples", "forecasting"):
        (tmp_path / name).symlink_to(ROOT / name)
    assert run_command(shlex.split(make)[1:], cwd=tmp_path).returncode == 0
    (tmp_path / "own.py").write_text(code)
    done = run_command(["own.py"], cwd=tmp_path, env=environment(tmp_path))
    assert done.returncode == 0, done.stderr
    assert re.match(prints, done.stdout)


def test_every_documentation_code_block_is_tested() -> None:
    assert {"README", "docs/BACKTEST", "docs/OPERATIONS"} < set(WITH_COMMANDS)
    for page in map(name_of, PAGES):
        text = (ROOT / f"{page}.md").read_text()
        kinds = {kind for kind, _ in BLOCK.findall(text)}
        assert len(re.findall(r"^```", text, re.MULTILINE)) == 2 * len(BLOCK.findall(text)), page
        for kind in kinds - {COMMANDS_OF_A_PAGE, DRAWING}:
            assert page in READ.get(kind, ()), f"{page} has a block of {kind} that no test reads"
        assert [line for line in lines_of(page) if not line.startswith(TYPED)] == [], page
    for page, test in OWN_TEST.items():
        assert f"{page.rpartition('/')[2]}.md" in (ROOT / test).read_text()


def test_bar_file_example_in_documentation_is_readable(tmp_path: Path) -> None:
    (shown,) = blocks("docs/BACKTEST", "csv")
    (tmp_path / "ACME.csv").write_text(shown)
    bars = DataSettings(dir=(str(tmp_path),)).load_panel((), None, None)
    assert bars.symbols == ("ACME",)
    assert bars.values[0, -1].tolist() == [100, 101.5, 99, 100.25, 1000]


def test_group_limits_shown_in_documentation_load(tmp_path: Path) -> None:
    (shown,) = blocks("docs/MATH", "yaml")
    (tmp_path / "groups.yaml").write_text(shown)
    limits = Limits(groups_file=str(tmp_path / "groups.yaml")).group_limits()
    assert [*limits.groups] == ["tech", "book"]


def test_settings_of_an_unattended_week_are_valid(tmp_path: Path) -> None:
    (shown,) = blocks("docs/OPERATIONS", "yaml")
    (tmp_path / "week.yaml").write_text(shown)
    config = compose_config("live", [f"config={tmp_path / 'week.yaml'}", "mode=paper"])
    settings = LiveSettings.from_config(config)
    assert settings.protect.is_on
    assert settings.watch.limits
    assert settings.guards.tiers
    assert settings.notices.summary
    assert settings.shadow


def test_every_command_named_in_documentation_exists() -> None:
    """Also within sentences and tables."""
    named: dict[str, str] = {}
    for path in PAGES:
        for module in re.findall(r"python -m ([\w.]+)", path.read_text()):
            named[module] = path.name
    studies = {f"studies.{path.stem}" for path in (ROOT / "studies").glob("*.py")}
    known = {*COMMANDS.values(), "tools.mutants.measure", "tools.train_checkpoint", *studies}
    assert {module: page for module, page in named.items() if module not in known} == {}


def test_every_setting_named_in_documentation_exists() -> None:
    known = {key for kinds in CLASSES.values() for kind in kinds for key in keys_of(kind)}
    free = ("hydra.", "forecaster.arguments.", "sizing.arguments.")
    for path in PAGES:
        named = re.findall(r"(?<![\w./~])\+?([a-z_]+\.[a-z_.]+)=", path.read_text())
        settings = {key for key in named if not key.startswith(free)}
        assert {key for key in settings if not key.endswith("._target_")} <= known, path.name


def keys_of(kind: type[Any], group: str = "") -> Iterator[str]:
    """Every dotted key of a settings class, groups too."""
    for field in fields(kind):
        yield f"{group}{field.name}"
        if (inner := settings_class_in_annotation(field.type)) is not None:
            yield from keys_of(inner, f"{group}{field.name}.")


def test_every_file_named_in_documentation_exists() -> None:
    for path in PAGES:
        for name in re.findall(r"`((?:\w+/)+\w+\.(?:py|yaml|service|yml))`", path.read_text()):
            assert (ROOT / name).exists(), f"{path.name}: {name}"


def test_architecture_page_names_each_extension_points_file() -> None:
    text = (ROOT / "docs" / "ARCHITECTURE.md").read_text()
    table = text.partition("## Where to add what")[2].partition("\n## ")[0]
    rows = [line.split(" | ") for line in table.splitlines() if line.startswith("| a")]
    assert len(rows) == 13
    for added, place, _ in rows:
        file, *names = re.findall(r"`([\w/.]+)`", place.partition("(")[0])
        source = (ROOT / file).read_text()
        assert names, added
        assert [name for name in names if not re.search(rf"\b{name}\b", source)] == [], added


def test_readme_is_short_and_page_links_resolve() -> None:
    assert len((ROOT / "README.md").read_text().split()) <= 900
    for page in PAGES:
        for target, anchor in re.findall(r"\]\((?!http)([^)#]*)#?([^)]*)\)", page.read_text()):
            linked = page.parent / target if target else page
            assert linked.exists(), f"{page.name}: {target}"
            assert not anchor or anchor in anchors_of(linked), f"{page.name}: {target}#{anchor}"


def test_readme_states_measured_installation_and_run_times() -> None:
    measured = yaml.safe_load((ROOT / "docs" / "first_run.yaml").read_text())
    first, again = measured["first_backtest"], measured["next_backtest"]
    sentence = (
        f"installation takes {measured['installation']} s, the first `make backtest` {first} s,"
        f" the next {again} s and `make test` {measured['tests']} s"
    )
    assert sentence in " ".join((ROOT / "README.md").read_text().split())


def anchors_of(page: Path) -> set[str]:
    """Of its headings, as GitHub names them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings}
