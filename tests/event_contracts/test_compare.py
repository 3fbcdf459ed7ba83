"""The comparison plays fairly, counts what was tried, answers in words, and refuses in one line."""

from __future__ import annotations

import html
import json
import os
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from event_contracts.compare import ComparisonSettings, compare, held_out_sessions
from event_contracts.simulation.comparison import Standing
from event_contracts.simulation.comparison_page import report_of
from event_contracts.simulation.settings import EpisodeSettings
from event_contracts.simulation.synthetic import SyntheticMarket
from event_contracts.trading.actions import POSITION_SIZES
from event_contracts.trading.observation import features_of
from event_contracts.trading.policies import About
from foundation.compose import composed_config
from foundation.errors import InputError
from tests.commands import overridden, run_command
from tests.e2e.refused import refusal_of
from tests.pages import without_scripts

EDGE = SyntheticMarket(steps=20, edge=0.2, memory=0.99)
SMALL = ComparisonSettings(episode=EpisodeSettings(market=EDGE), sessions=25, runs=2)


def checkpoint(path: Path, seed: int = 0, **about: Any) -> str:
    """A network that nobody trained."""
    rng = np.random.default_rng(seed)
    said = About(**about)
    width = len(said.features)
    weights = {
        "mlp_extractor.policy_net.0.weight": rng.normal(size=(8, width)),
        "mlp_extractor.policy_net.0.bias": rng.normal(size=8),
        "action_net.weight": rng.normal(size=(25, 8)),
        "action_net.bias": rng.normal(size=25),
    }
    floats = {name: values.astype(np.float32) for name, values in weights.items()}
    save_file(floats, path, {"kalshi": json.dumps(asdict(said))})
    return str(path)


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> ComparisonSettings:
    """With two checkpoints of each kind."""
    folder = tmp_path_factory.mktemp("checkpoints")
    free = tuple(checkpoint(folder / f"free{k}", k) for k in range(2))
    fixed = tuple(checkpoint(folder / f"fixed{k}", k, fixed_size=10) for k in range(2))
    return replace(SMALL, variable=free, fixed=fixed)


def sizes_of(standing: Standing) -> set[int]:
    return {order.size for episode in standing.episodes for order in episode.orders}


@pytest.mark.slow
def test_every_policy_plays_every_session_and_each_pair_is_answered(
    named: ComparisonSettings, tmp_path: Path
) -> None:
    ledger = tmp_path / "trials.sqlite"
    comparison = compare(replace(named, trials=str(ledger)))
    names = [each.name for each in comparison.standings]
    assert names == ["variable", "fixed 10", "kelly", "kelly fixed 10", "random", "nothing"]
    assert [each.runs for each in comparison.standings] == [2, 2, 1, 1, 2, 1]
    assert set(comparison.answers) == {("variable", "fixed 10"), ("kelly", "kelly fixed 10")}
    by_name = {each.name: each for each in comparison.standings}
    for name in ("fixed 10", "kelly fixed 10"):
        assert sizes_of(by_name[name]) == {10}
    assert len(sizes_of(by_name["variable"])) > 1
    assert by_name["nothing"].profit == 0
    # Chance and nothing are no trials, and what is repeated is none.
    assert comparison.trials == 4
    assert by_name["random"].deflated is None
    assert 0 <= (by_name["kelly"].deflated or 0) <= 1
    assert compare(replace(named, trials=str(ledger))).trials == 4
    other = replace(named, kelly_fraction=0.25, trials=str(ledger))
    assert compare(other).trials == 6


@pytest.mark.slow
def test_the_same_settings_give_the_same_comparison() -> None:
    first, second = (report_of(compare(SMALL)).content for _ in range(2))
    assert first == second
    moved = report_of(compare(replace(SMALL, seed=1))).content
    assert moved["runs"] != first["runs"]


def test_json_holds_every_figure_and_the_page_every_section(named: ComparisonSettings) -> None:
    report = report_of(compare(named))
    content = json.loads(json.dumps(report.content, allow_nan=False))
    assert [answer["verdict"] in ("yes", "no", "no power") for answer in content["answers"]]
    random = next(run for run in content["runs"] if run["run"] == "random")
    low, high = random["profit_usd"]["interval"]
    assert low < random["profit_usd"]["value"] < high
    assert random["total_profit_usd"] == pytest.approx(25 * random["profit_usd"]["value"])
    assert set(random["sizes"]["position_size_distribution"]) <= {str(s) for s in POSITION_SIZES}
    page = report.page()
    for row in report.sheet.table.rows:
        assert f"<h2>Sizes: {row[0]}</h2>" in page
        assert len(row) == len(report.sheet.table.heads)
    assert page.count("Size against profit") == page.count("Sizing over time") == 5
    assert page.count("No order was sent.") == 1
    for sentence in (report.sheet.verdict.claim, report.sheet.verdict.rest):
        assert re.search(r"\? (Yes|No|No power): USD an episode", sentence)
        assert html.escape(sentence).replace("&#x27;", "&#39;") in page
    rest = without_scripts(page, "marketsimulator/runs.js")
    assert not re.search(r"<script|https?://(?!www\.w3\.org)", rest)


def test_few_groups_are_said_to_decide_nothing() -> None:
    comparison = compare(replace(SMALL, sessions=5))
    assert {answer.verdict for answer in comparison.answers.values()} == {"no power"}
    assert "5 groups are fewer than 20" in " ".join(report_of(comparison).sheet.warnings)


def recorded(folder: Path, events: int) -> Path:
    """Files of events with two markets each, an hour long."""
    rows, settled = [], []
    for event in range(events):
        for market in range(2):
            ticker = f"RAIN-{event}-{market}"
            settled.append({"ticker": ticker, "settled_yes_inferred": (event + market) % 2})
            for minute in range(0, 60, 5):
                at = pd.Timestamp(f"2026-11-{event + 1:02} 12:{minute:02}", tz="UTC")
                bid = 40 + (minute + event) % 7
                quote = {"yes_bid": bid, "no_bid": 98 - bid}
                rows.append({"timestamp": at, "ticker": ticker, "event": f"RAIN-{event}", **quote})
    pd.DataFrame(rows).to_parquet(folder / "RAIN_top_of_book.parquet")
    pd.DataFrame(settled).to_parquet(folder / "RAIN_settlement.parquet")
    return folder


def test_the_last_events_judge_and_the_markets_of_one_are_one_group(tmp_path: Path) -> None:
    folder = str(recorded(tmp_path, 6))
    settings = replace(SMALL, recorded=True, folder=folder, judge_events=4)
    held_out = held_out_sessions(settings)
    assert held_out.groups.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert held_out.markets[0] == "RAIN-2-0"
    assert held_out.first.startswith("2026-11-03T12:00")
    assert compare(settings).standings[-1].profit == 0
    with pytest.raises(InputError, match="judge_events: 6 of 6 recorded events leave none"):
        held_out_sessions(replace(settings, judge_events=6))


def test_a_checkpoint_that_has_seen_what_judges_is_refused(tmp_path: Path) -> None:
    folder = str(recorded(tmp_path, 6))
    settings = replace(SMALL, recorded=True, folder=folder, judge_events=4)
    taught = [
        checkpoint(tmp_path / f"after{k}", settings={"recorded": True, "train_events": k})
        for k in (2, 3)
    ]
    assert compare(replace(settings, variable=(taught[0],))).standings[0].name == "variable"
    with pytest.raises(InputError, match="after3: trained on the first 3 recorded events"):
        compare(replace(settings, variable=(taught[1],)))
    vague = checkpoint(tmp_path / "vague", settings={"recorded": True, "train_events": "many"})
    with pytest.raises(InputError, match="vague: its header does not say how many events"):
        compare(replace(settings, variable=(vague,)))
    synthetic = replace(SMALL, sessions=2, variable=(taught[1],))
    assert compare(synthetic).standings[0].name == "variable"


def test_the_file_of_settings_has_the_defaults_of_the_class() -> None:
    settings = ComparisonSettings.of(composed_config("kalshi_compare", ["output=x", "trials=null"]))
    fees = settings.episode.fees
    expected = ComparisonSettings(episode=EpisodeSettings(fees=fees), output="x")
    assert settings == expected


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"fixed_size": 7}, "fixed_size: 7 is none of"),
        ({"variable": ("a", "b"), "fixed": ("c",)}, "variable, fixed: 2 and 1 checkpoints"),
        ({"episode": EpisodeSettings(fixed_size=5)}, "episode.fixed_size: 5 leaves nothing"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=re.escape(says)):
        replace(SMALL, **changes)


def test_a_checkpoint_of_other_sizes_or_features_is_refused(tmp_path: Path) -> None:
    free = checkpoint(tmp_path / "free")
    fixed = checkpoint(tmp_path / "fixed", fixed_size=20)
    blind = checkpoint(tmp_path / "blind", features=features_of(sizes=False))
    with pytest.raises(InputError, match=r"fixed.*, variable: trained with fixed_size=20; set"):
        compare(replace(SMALL, variable=(fixed,)))
    with pytest.raises(InputError, match=r"fixed.*, fixed 10: trained with fixed_size=20; set"):
        compare(replace(SMALL, fixed=(fixed,)))
    with pytest.raises(InputError, match="blind: sees other features than"):
        compare(replace(SMALL, variable=(free, blind)))
    assert compare(replace(SMALL, variable=(blind,), sessions=2)).standings[0].name == "variable"
    with pytest.raises(InputError, match="no checkpoint"):
        compare(replace(SMALL, variable=(str(tmp_path / "nowhere"),)))


def test_a_checkpoint_of_other_price_styles_is_refused(tmp_path: Path) -> None:
    patient = checkpoint(tmp_path / "patient", settings={"episode": {"price_style": "passive"}})
    with pytest.raises(InputError, match=r"patient.*: trained with price_style=passive; set it"):
        compare(replace(SMALL, variable=(patient,)))
    mixed = {**dict.fromkeys(("BUY_YES", "BUY_NO", "SELL_YES"), "aggressive"), "SELL_NO": "mid"}
    other = checkpoint(tmp_path / "other", settings={"episode": {"price_style": mixed}})
    with pytest.raises(InputError, match=r'price_style=\{"BUY_YES": "aggressive"'):
        compare(replace(SMALL, variable=(other,)))
    same = {**mixed, "SELL_NO": "aggressive"}
    fits = checkpoint(tmp_path / "fits", settings={"episode": {"price_style": same}})
    assert compare(replace(SMALL, variable=(fits,), sessions=2)).standings[0].name == "variable"


@pytest.mark.slow
def test_the_command_writes_a_page_and_refuses_in_one_line(tmp_path: Path) -> None:
    command = ["-m", "event_contracts.compare", "sessions=3", "episode.market.steps=10"]
    done = run_command([*command, "output=out"], cwd=tmp_path, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
    assert "Does kelly earn more than 10% more than kelly fixed 10" in done.stdout
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "comparison.html",
        "comparison.json",
    ]
    again = run_command([*command, "output=out"], cwd=tmp_path, env=dict(os.environ))
    assert again.returncode == 0, again.stderr
    before = sorted(tmp_path.rglob("*"))
    refused = run_command(
        [*command, "variable=nowhere", "output=deep/in/no"], cwd=tmp_path, env=dict(os.environ)
    )
    assert refused.returncode == 2
    assert refused.stderr == (
        "error: variable: nowhere: no checkpoint: No such file or directory: nowhere (it names"
        " checkpoints that event_contracts.train has written)\n"
    )
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.first_example
@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["output=there"], "comparison.json is a folder, a file's name is needed"),
        (["trials='~nobody at all/ledger'"], "there is no user nobody at all, whose folder"),
        (["recorded=true", "folder=nowhere"], "is no folder"),
        (["variable=[there]"], "variable: there: no checkpoint: "),
    ],
)
def test_a_refused_comparison_is_one_line_and_leaves_nothing(
    words: list[str],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "there" / "comparison.json").mkdir(parents=True)
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.chdir(tmp_path)
    usual = ["sessions=2", "runs=1", "episode.market.steps=10", "trials=null", "output=deep/in/out"]
    assert says in refusal_of("event_contracts.compare", *overridden(usual, words))
    assert sorted(tmp_path.rglob("*")) == before
