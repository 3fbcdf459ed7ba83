"""How much one has to hold: statements of each package and of each door, nodes of the product.

A door is a command, and its weight is that of all modules that it reaches by imports, lazy ones
too. The ceilings in `mass.yaml` equal what is there, and they never rise; with
`make mass` they are written anew.
"""

from __future__ import annotations

import ast
import re
import subprocess
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from foundation import PACKAGES

ROOT = Path(__file__).resolve().parent.parent
CEILINGS = Path("tests/mass.yaml")
APART = ("tests", "studies", "tools", "docs", "examples")
DOORS = {
    "spread count": "option_spreads/contracts.py",
    "tear sheet": "marketsimulator/tearsheet.py",
    "replay of weights": "marketsimulator/weight_replay.py",
    "bulk forecast": "forecasting/batch.py",
    "backtest": "marketsimulator/backtest.py",
    "live": "trade_stock_e2e.py",
    "event contracts, live": "event_contracts/trade.py",
    "event contracts, training": "event_contracts/train.py",
}
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
OTHER_CODE = {".yaml", ".html", ".j2", ".jinja", ".sql", ".js", ".css"}  # counted by lines
PATH_OF_MODULE = re.compile(rf"((?:{'|'.join(PACKAGES)})(?:\.\w+)+)(?::\w+)?")


def git(*words: str) -> str:
    return subprocess.run(("git", *words), cwd=ROOT, capture_output=True, text=True).stdout


def imported(tree: ast.AST, name: str) -> set[str]:
    """Return the dotted names that a module imports, or names in a text outside command tables."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: relative import"
            found |= {f"{node.module}.{each.name}" for each in node.names} | {f"{node.module}"}
        elif isinstance(node, ast.Import):
            found |= {each.name for each in node.names}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            named = PATH_OF_MODULE.fullmatch(node.value)
            found |= {named[1]} if named and not name.endswith("__init__.py") else set()
    return found


def measure() -> dict[str, dict[str, int]]:
    """Return statements and lines of other code by package, the whole product, and the doors."""
    sizes: defaultdict[str, Counter[str]] = defaultdict(Counter)
    weights: dict[str, int] = {}
    imports: dict[str, set[str]] = {}
    for name in git("ls-files").split():
        room = name.partition("/")[0] if "/" in name else "top level"
        room = "studies, tools, docs, examples" if room in APART[1:] else room
        if Path(name).suffix in OTHER_CODE and not name.startswith(APART) and "/" in name:
            sizes[room]["other lines"] += len((ROOT / name).read_text().splitlines())
        if not name.endswith(".py"):
            continue
        tree = ast.parse((ROOT / name).read_text())
        nodes = list(ast.walk(tree))
        statements = sum(isinstance(node, ast.stmt) for node in nodes)
        sizes[room]["statements"] += statements
        if not name.startswith(APART):
            weights[name], imports[name] = statements, imported(tree, name)
            sizes["product"] += Counter(
                statements=statements,
                definitions=sum(isinstance(node, DEFINITIONS) for node in nodes),
                nodes=len(nodes),
            )
    files = {re.sub(r"(/__init__)?\.py$", "", each).replace("/", "."): each for each in weights}
    doors = {}
    for door, entry in DOORS.items():
        reached, rest = set[str](), [entry]
        while rest:
            name = rest.pop()
            if name not in reached:
                reached.add(name)
                rest += [files[each] for each in imports[name] if each in files]
        doors[door] = sum(weights[each] for each in reached)
    return {**{room: dict(sorted(size.items())) for room, size in sizes.items()}, "doors": doors}


def risen(now: Mapping[str, Mapping[str, int]], then: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Return what is above `then`, one line each."""
    return [
        f"{room}: {kind} {number:,}, above {then[room][kind]:,}"
        for room, kinds in now.items()
        for kind, number in kinds.items()
        if number > then.get(room, {}).get(kind, number)
    ]


def test_mass_equals_its_ceilings() -> None:
    ceilings = yaml.safe_load((ROOT / CEILINGS).read_text())
    found = measure()
    assert risen(found, ceilings) == [], "take as much away elsewhere"
    assert found == ceilings, "it fell: make mass"


def test_ceilings_of_mass_never_rise() -> None:
    last = git("log", "-1", "--format=%H", "--", str(CEILINGS)).strip()
    before = git("show", f"{last}^:{CEILINGS}") if last else ""
    if not before:
        pytest.skip("no earlier version of the ceilings")
    assert risen(yaml.safe_load((ROOT / CEILINGS).read_text()), yaml.safe_load(before)) == []


if __name__ == "__main__":
    (ROOT / CEILINGS).write_text(yaml.safe_dump(measure(), sort_keys=True))
