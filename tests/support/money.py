"""Which default tests keep which promise about money: the list of money.yaml."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
LIST = ROOT / "tests" / "money.yaml"
COLLECTED = pytest.StashKey[list[pytest.Item]]()  # every test, before markers leave any out


@cache
def promises() -> dict[str, list[tuple[str, str]]]:
    """Promise → its tests, each a file below the project's root and a function."""
    stated = yaml.safe_load(LIST.read_text())["promises"]
    return {
        promise: [(name.partition("::")[0], name.partition("::")[2]) for name in names]
        for promise, names in stated.items()
    }


@cache
def money_files() -> set[str]:
    """The files that have one of these tests."""
    return {file for tests in promises().values() for file, _ in tests}


def long_tests_allowed() -> int:
    """How many tests may be marked `long`."""
    return int(yaml.safe_load(LIST.read_text())["long"])


def name_of(item: pytest.Item) -> tuple[str, str]:
    """The file of a test below the project's root, and its function."""
    return item.path.relative_to(ROOT).as_posix(), getattr(item, "originalname", item.name)


def lacking(
    collected: set[tuple[str, str]], run: set[tuple[str, str]]
) -> dict[str, list[tuple[str, str]]]:
    """Promise → tests that are gone, or left out of a run that has their file."""
    files = {file for file, _ in collected}
    lost = {
        promise: [
            test
            for test in tests
            if not (ROOT / test[0]).is_file() or (test[0] in files and test not in run)
        ]
        for promise, tests in promises().items()
    }
    return {promise: tests for promise, tests in lost.items() if tests}
