"""Orders that the venue refuses: one alert per cause, and an all-clear once it accepts."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from execution.live.account_lock import STATUS_PAGE_FILE
from foundation.database import query_rows
from practice import alpaca_server
from practice.request import RequestRefused
from tests.e2e.practice import Practice, buy, trading
from tests.e2e.refused import answer_of
from tests.support.pages import text_of
from tests.support.paper_runs import paper

ORDERS = {"method": "POST", "path": "/v2/orders"}
ALWAYS = 1000
NEXT_DAY = "2024-02-21T15:30:00Z"
STEADY = "sizing.band=0.0001"
SIX = 6


def notices(folder: Path) -> list[tuple[str, str]]:
    """Return kind and text of every notice in the journal."""
    [journal] = folder.glob("data/live/*/journal.sqlite")
    return [(kind, text) for kind, text in query_rows(journal, "SELECT kind, text FROM notices")]


def kinds(folder: Path) -> list[str]:
    return [kind for kind, _ in notices(folder)]


def status(folder: Path) -> tuple[int, str]:
    code, printed, said = answer_of("execution.live", "status", cwd=folder)
    return code, printed + said


def page(folder: Path) -> str:
    [file] = folder.glob(f"data/live/*/{STATUS_PAGE_FILE}")
    return text_of(file.read_text())


def cycle(here: Practice, folder: Path, *words: str) -> str:
    """Run a cycle in a separate process, an hour before the next one; return its stderr."""
    run = paper(here, folder, STEADY, *words)
    assert run.returncode == 0, run.stderr
    here.advance()
    return run.stderr


def refuse(
    here: Practice, patch: pytest.MonkeyPatch, why: Callable[[dict[str, Any]], str | None]
) -> None:
    """Make the venue refuse orders with 403; why: its message for a request, none to accept."""
    submit = here.venue.submit

    def submitted(request: dict[str, Any], **faults: bool) -> Any:
        message = why(request)
        if message is not None:
            raise RequestRefused(403, None, message)
        return submit(request, **faults)

    patch.setattr(here.venue, "submit", submitted)


def state_account(patch: pytest.MonkeyPatch, **facts: Any) -> None:
    """Make the venue state other facts of the account."""
    usual = alpaca_server.account_response
    patch.setattr(alpaca_server, "account_response", lambda *asked: {**usual(*asked), **facts})


def test_six_refused_cycles_alert_once(here: Practice, tmp_path: Path) -> None:
    here.fail(kind="status", status=403, count=ALWAYS, **ORDERS)
    said = [cycle(here, tmp_path) for _ in range(SIX)]
    assert [each.count("ALERT") for each in said] == [1, 0, 0, 0, 0, 0]
    [(kind, text)] = notices(tmp_path)
    assert kind == "refused"
    assert "rejected (403)" in text
    code, text = status(tmp_path)
    assert code == 1
    assert (
        text.count(
            "the venue refuses orders in stocks since 2024-02-20T15:30Z (12 times: SYA, SYB)"
        )
        == 1
    )
    assert "The venue refuses orders" in page(tmp_path)
    here.clear_faults()
    here.advance(NEXT_DAY)
    assert "ALL CLEAR: the venue accepts orders again" in cycle(here, tmp_path)
    assert kinds(tmp_path) == ["refused", "all clear"]
    code, text = status(tmp_path)
    assert code == 0, text
    assert "refuses orders in stocks since" not in text
    assert "The venue refuses orders" not in page(tmp_path)


def test_liquidation_only_account_alerts_once_despite_accepted_sales(
    here: Practice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trading(here).submit_order(buy("SYA", 1500))
    here.advance()
    numbers = count(1)
    message = "account restricted to liquidation only: buying power {}.25 USD"
    refuse(
        here,
        monkeypatch,
        lambda request: message.format(next(numbers)) if request["side"] == "buy" else None,
    )
    for _ in range(SIX - 1):
        cycle(here, tmp_path)
    assert any(ticket.order.side == "sell" for ticket in here.venue.tickets.values())
    assert kinds(tmp_path) == ["refused"]
    assert status(tmp_path)[0] == 1


def test_refused_reducing_sales_raise_an_urgent_alert(
    here: Practice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trading(here).submit_order(buy("SYA", 1500))
    here.advance()
    numbers = count(1)
    refuse(
        here,
        monkeypatch,
        lambda request: (
            f"insufficient qty available (requested: {next(numbers)})"
            if request["side"] == "sell"
            else None
        ),
    )
    for _ in range(SIX - 1):
        cycle(here, tmp_path)
    [(kind, text)] = notices(tmp_path)
    assert kind == "refused reduction"
    assert text.startswith("URGENT: ")
    code, text = status(tmp_path)
    assert code == 1
    assert "URGENT: the venue refuses orders that reduce positions" in text
    assert "The venue refuses orders that reduce" in page(tmp_path)


def test_blocked_account_alert_is_not_urgent(
    here: Practice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trading(here).submit_order(buy("SYA", 1500))
    here.advance()
    state_account(monkeypatch, status="ACCOUNT_UPDATED")
    for _ in range(2):
        cycle(here, tmp_path)
    [(kind, text)] = notices(tmp_path)
    assert kind == "refused"
    assert "ACCOUNT_UPDATED" in text
    code, printed = status(tmp_path)
    assert code == 1
    assert "ACCOUNT_UPDATED" in printed
    for said in (text, printed, page(tmp_path)):
        assert "URGENT" not in said
        assert "refused reduction" not in said
    monkeypatch.undo()
    cycle(here, tmp_path)
    assert kinds(tmp_path) == ["refused", "all clear"]


def test_each_refusal_cause_raises_one_alert(
    here: Practice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    causes = {"SYA": "asset SYA is not active", "SYB": "insufficient buying power"}
    refuse(here, monkeypatch, lambda request: causes[request["symbol"]])
    for _ in range(SIX):
        cycle(here, tmp_path)
    assert kinds(tmp_path) == ["refused", "refused"]
    assert status(tmp_path)[1].count("refuses orders in stocks since") == 2
    code, printed, _ = answer_of("execution.live", "clear", "refused", "--by", "Ada", cwd=tmp_path)
    assert (code, printed) == (0, "cleared: 2 causes of refused orders\n")
    assert status(tmp_path)[0] == 0
    code, _, said = answer_of("execution.live", "clear", "refused", "--by", "Ada", cwd=tmp_path)
    assert (code, said.count("\n")) == (2, 1)


@pytest.mark.parametrize("fault", [{"kind": "reject_later"}, {"kind": "status", "status": 429}])
def test_delayed_rejection_or_rate_limit_counts_as_refusal(
    here: Practice, tmp_path: Path, fault: dict[str, Any]
) -> None:
    # A venue that answers 429 is asked again before an order is given up.
    here.fail(count=ALWAYS, **{**ORDERS, **fault}, seconds=0.0)
    for _ in range(3):
        cycle(here, tmp_path)
    assert kinds(tmp_path) == ["refused"]
    assert status(tmp_path)[0] == 1
