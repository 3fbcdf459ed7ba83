"""Metrics of an account: written by every loop, read by Prometheus, used by the shipped panels."""

from __future__ import annotations

import json
import re
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from execution.journal.events import EventLog
from execution.live import metrics as module
from execution.live.account_lock import JOURNAL_FILE
from execution.live.metrics import METRICS_FILE, MetricsFile, read_metrics
from execution.live.open_account import OpenAccount
from foundation.clock import TimeSource
from foundation.notifier import Notifier
from foundation.redaction import NULL_REDACTOR
from tests.e2e.practice import Practice
from tests.e2e.refused import answer_of
from tests.support.paper_runs import paper
from tests.support.written import NOW, Written

DEPLOY = Path(__file__).resolve().parents[3] / "deploy"
HOUR = np.timedelta64(1, "h")
EPOCH = np.datetime64(0, "s")


def samples(text: str) -> dict[str, dict[tuple[str, ...], float]]:
    """Values by metric and by the values of the labels other than the account."""
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = tuple(v for k, v in sample.labels.items() if k != "account")
            found.setdefault(sample.name.removeprefix("kelly_chronos_"), {})[labels] = sample.value
    return found


@pytest.fixture
def day(tmp_path: Path) -> Written:
    """An account with marks, a halt, a planned order and three cycles."""
    written = Written(tmp_path / "account-1")
    written.mark(NOW - 2 * HOUR, 100_000.0, SYA=20_000.0)
    written.mark(NOW - HOUR, 90_000.0, SYA=30_000.0, SYB=-15_000.0)
    written.halts.raise_halt("daily_loss", "lost 10 %", NOW)
    written.order("a-1")
    for result in ({"decision_id": "a"}, {"idle_reason": "no bars"}, {"failure": "timeout"}):
        written.made(**result)
    return written


def test_metrics_state_equity_exposure_orders_and_halts(day: Written) -> None:
    found = samples(read_metrics(day.folder / JOURNAL_FILE))
    assert found["equity_usd"] == {(): 90_000.0}
    assert found["position_usd"] == {("SYA",): 30_000.0, ("SYB",): -15_000.0}
    assert found["gross_ratio"] == {("stock",): 0.5, ("crypto",): 0.0}
    assert found["stock_ceiling_ratio"] == {(): 4.0}
    assert found["drawdown_ratio"][()] == found["daily_loss_ratio"][()] == pytest.approx(0.1)
    assert found["last_mark_timestamp_seconds"][()] == (NOW - HOUR - EPOCH) / np.timedelta64(1, "s")
    assert found["orders"] == {("none", "planned"): 1.0}
    assert found["cycles_total"] == {
        ("trade", result): 1.0 for result in ("decided", "idle", "failed")
    }
    assert {kind: value for (kind,), value in found["halt"].items() if value} == {"daily_loss": 1.0}
    assert found["kill_file"] == {(): 0.0}


def test_order_latency_is_the_longest_wait(day: Written) -> None:
    for order, seconds in (("x", 2), ("y", 7)):
        for kind, at in (("submitting", NOW), ("accepted", NOW + np.timedelta64(seconds, "s"))):
            EventLog(day.database, clock=TimeSource(now=lambda at=at: at)).append(kind, order)
    assert samples(read_metrics(day.folder / JOURNAL_FILE))["order_latency_seconds"] == {(): 7.0}


def test_an_event_contract_account_states_contract_exposure(tmp_path: Path) -> None:
    kalshi = Written(tmp_path / "kalshi-demo-1")
    kalshi.mark(NOW, 1_000.0, RAIN=250.0)
    found = samples(read_metrics(kalshi.folder / JOURNAL_FILE))
    assert found["gross_ratio"] == {("contract",): 0.25}
    assert "stock_ceiling_ratio" not in found


def test_metrics_of_an_empty_journal_are_valid(tmp_path: Path) -> None:
    empty = Written(tmp_path / "account-1")
    found = samples(read_metrics(empty.folder / JOURNAL_FILE))
    assert found["alerts_total"] == {(): 0.0}
    assert "equity_usd" not in found


def metrics_file(day: Written) -> MetricsFile:
    told = Notifier(None, None), NULL_REDACTOR, TimeSource(now=lambda: NOW)
    return MetricsFile(OpenAccount(day.folder.name, day.database, day.folder, *told))


def test_metrics_file_is_private_and_follows_the_journal(day: Written) -> None:
    writer, file = metrics_file(day), day.folder / METRICS_FILE
    writer.refresh()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.read_text() == read_metrics(day.folder / JOURNAL_FILE)
    file.unlink()
    writer.refresh()
    assert not file.exists(), "there is no new event"
    writer.refresh(force=True)
    assert file.exists()
    day.mark(NOW, 95_000.0)
    writer.refresh()
    assert samples(file.read_text())["equity_usd"] == {(): 95_000.0}


def test_failing_metrics_are_logged_once_and_not_raised(
    day: Written, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("made up")

    writer = metrics_file(day)
    with monkeypatch.context() as patch:
        patch.setattr(module, "build_metrics", fail)
        writer.refresh()
        writer.refresh()
    assert caplog.text.count("cannot write the metrics") == 1
    writer.refresh()
    assert (day.folder / METRICS_FILE).exists()


def test_loop_writes_what_the_command_prints(here: Practice, tmp_path: Path) -> None:
    paper(here, tmp_path)
    [file] = tmp_path.glob(f"data/live/*/{METRICS_FILE}")
    code, printed, said = answer_of("execution.live", "metrics", cwd=tmp_path)
    assert code == 0, said
    written, read = samples(file.read_text()), samples(printed)
    assert read["orders"] == {("opening", "filled"): 2.0}
    assert read["cycles_total"] == {("trade", "decided"): 1.0}
    assert written["equity_usd"] == read["equity_usd"]
    assert written.keys() - read.keys() == {"next_cycle_overdue_timestamp_seconds"}
    # The fills of this server differ from the decision's prices by its spread.
    assert abs(read["fill_drift_usd"][()]) > 0


def expressions(node: Any) -> list[str]:
    """All PromQL expressions and label queries within a document."""
    if isinstance(node, dict):
        own = [str(node[key]) for key in ("expr", "query") if isinstance(node.get(key), str)]
        return own + [each for value in node.values() for each in expressions(value)]
    return [each for value in node for each in expressions(value)] if isinstance(node, list) else []


@pytest.mark.parametrize("name", ["grafana.json", "alerts.yml"])
def test_every_metric_of_panels_and_rules_is_written(day: Written, name: str) -> None:
    text = (DEPLOY / name).read_text()
    document = json.loads(text) if name.endswith("json") else yaml.safe_load(text)
    used = set(re.findall(r"kelly_chronos_\w+", " ".join(expressions(document))))
    families = text_string_to_metric_families(read_metrics(day.folder / JOURNAL_FILE))
    known = {each.name + ("_total" if each.type == "counter" else "") for each in families}
    assert len(used) >= 10
    assert used <= known


def test_alert_rules_name_only_known_labels() -> None:
    rules = yaml.safe_load((DEPLOY / "alerts.yml").read_text())["groups"][0]["rules"]
    assert {rule["labels"]["severity"] for rule in rules} == {"critical", "warning"}
    for rule in rules:
        named = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
        assert named <= {"account", "kind", "job"}


@pytest.fixture
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not installed")
    return found


def test_promtool_accepts_rules_and_metrics(promtool: str, day: Written) -> None:
    subprocess.run([promtool, "check", "rules", str(DEPLOY / "alerts.yml")], check=True)
    text = read_metrics(day.folder / JOURNAL_FILE)
    subprocess.run([promtool, "check", "metrics"], input=text, text=True, check=True)
