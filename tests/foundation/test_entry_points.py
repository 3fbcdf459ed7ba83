"""What packages offer by entry points loads when it is asked for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from foundation import PACKAGES
from foundation.plugin import entry_point_names, load_entry_point
from tests.e2e.refused import refusal_of
from tests.support.messages import check_message

ROOT = Path(__file__).resolve().parent.parent.parent
KINDS = ("products", "jobs", "brokers")


@pytest.mark.parametrize("kind", KINDS)
def test_every_entry_point_loads(kind: str) -> None:
    assert entry_point_names(kind)
    assert all(load_entry_point(kind, name) is not None for name in entry_point_names(kind))


def test_listing_entry_points_loads_no_library() -> None:
    code = (
        f"import sys, {', '.join(PACKAGES)}; from foundation.plugin import entry_point_names;"
        f" print(sum(len(entry_point_names(kind)) for kind in {KINDS}),"
        " {'numpy', 'pandas', 'torch', 'numba'} & {*sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{sum(len(entry_point_names(kind)) for kind in KINDS)} set()\n"


@pytest.mark.parametrize(
    ("module", "words", "key", "fact"),
    [
        ("trade_stock_e2e", ["jobs=[trade,spread]"], "jobs.1", "spreads"),
        ("execution.doctor", ["broker.name=alpacca"], "broker.name", "alpaca"),
    ],
)
def test_unknown_registered_name_is_refused_in_one_line(
    module: str,
    words: list[str],
    key: str,
    fact: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("APCA_API_KEY_ID", "id")
    monkeypatch.setenv("APCA_API_SECRET_KEY", "secret")
    check_message(refusal_of(module, *words, "symbols=[NVDA]", cwd=tmp_path), key, fact)
