"""What rooms register: it is there, with what its kind asks for, and loads when it is asked for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from foundation import PACKAGES
from foundation.registry import registered, registered_module
from tests.e2e.refused import refusal_of

ROOT = Path(__file__).resolve().parent.parent.parent
KINDS = {
    "JOBS": ("open_job",),
    "BROKERS": ("ACCOUNT",),
    "DESKS": ("PracticeSettings", "OptionDesk"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_registered_has_what_its_kind_asks_for(kind: str) -> None:
    assert registered(kind)
    for word in registered(kind):
        module = registered_module(kind, word)
        assert [name for name in KINDS[kind] if not hasattr(module, name)] == []


def test_to_import_the_rooms_and_look_who_is_registered_loads_no_library_and_none_of_them() -> None:
    code = (
        f"import sys, {', '.join(PACKAGES)}; from foundation.registry import registered;"
        f" modules = [m for kind in {list(KINDS)} for m in registered(kind).values()];"
        " print(len(modules), {*modules, 'numpy', 'pandas', 'torch', 'numba'} & {*sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{sum(len(registered(kind)) for kind in KINDS)} set()\n"


@pytest.mark.parametrize(
    ("module", "words", "key", "known"),
    [
        ("trade_stock_e2e", ["jobs=[trade,spread]"], "jobs.1", "spreads"),
        ("execution.doctor", ["broker.name=alpacca"], "broker.name", "alpaca"),
    ],
)
def test_what_nobody_registers_is_one_line_and_exit_code_2(
    module: str,
    words: list[str],
    key: str,
    known: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("APCA_API_KEY_ID", "id")
    monkeypatch.setenv("APCA_API_SECRET_KEY", "secret")
    line = refusal_of(module, *words, "symbols=[NVDA]", cwd=tmp_path)
    assert line.startswith(f"error: {key}: ")
    assert known in line
