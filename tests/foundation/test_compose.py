"""Configuration on the command line, whatever the interpreter's argparse checks."""

from __future__ import annotations

import argparse
import sys
from contextlib import nullcontext
from typing import Any

import pytest

from foundation import compose


def test_hydra_starts_where_argparse_looks_at_every_help_text(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As Python 3.14 does; Hydra's own words for shell completion are no text before they are
    printed.
    """
    add = argparse._ActionsContainer.add_argument

    def check(parser: Any, action: argparse.Action) -> None:
        if action.help is not None and "%" not in action.help:
            return

    def added(self: Any, *names: Any, **fields: Any) -> argparse.Action:
        action = add(self, *names, **fields)
        if isinstance(self, argparse.ArgumentParser):
            self._check_help(action)  # type: ignore[attr-defined]
        return action

    monkeypatch.setattr(argparse.ArgumentParser, "_check_help", check, raising=False)
    monkeypatch.setattr(argparse.ArgumentParser, "add_argument", added, raising=False)
    monkeypatch.setattr(sys, "argv", ["backtest", "symbols=[SYA]"])
    seen: list[Any] = []
    compose.hydra_command("backtest", lambda config: seen.append(config.symbols))
    assert seen == [["SYA"]]
    monkeypatch.setattr(compose, "_unchecked_help", nullcontext)
    with pytest.raises(TypeError):
        compose.hydra_command("backtest", seen.append)
