"""The comparison plays fairly, answers in words, and refuses in one line."""

from __future__ import annotations

import html
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from event_contracts.compare import ComparisonSettings, compare, held_out_sessions
from event_contracts.simulation.comparison import Comparison, Standing
from event_contracts.simulation.comparison_page import result_of
from event_contracts.simulation.settings import EpisodeSettings
from event_contracts.simulation.synthetic import SyntheticMarket
from event_contracts.trading.actions import POSITION_SIZES
from foundation.errors import InputError
from tests.commands import overridden
from tests.e2e.refused import refusal_of, started
from tests.event_contracts.checkpoints import checkpoint
from tests.event_contracts.recordings import Quote, write_files
from tests.pages import without_scripts

EDGE = SyntheticMarket(steps=20, edge=0.2, memory=0.99)
SMALL = ComparisonSettings(episode=EpisodeSettings(market=EDGE), sessions=25, runs=2)


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> ComparisonSettings:
    """With two checkpoints of each kind."""
    folder = tmp_path_factory.mktemp("checkpoints")
    free = tuple(checkpoint(folder / f"free{k}", k) for k in range(2))
    fixed = tuple(checkpoint(folder / f"fixed{k}", k, fixed_size=10) for k in range(2))
    return replace(SMALL, variable=free, fixed=fixed)


def sizes_of(standing: Standing) -> set[int]:
    return {order.size for episode in standing.episodes for order in episode.orders}


@pytest.fixture(scope="module")
def comparison(named: ComparisonSettings) -> Comparison:
    return compare(named)


def test_every_policy_plays_every_session_and_each_pair_is_answered(comparison: Comparison) -> None:
    names = [each.name for each in comparison.standings]
    assert names == ["variable", "fixed 10", "kelly", "kelly fixed 10", "random", "nothing"]
    assert [each.runs for each in comparison.standings] == [2, 2, 1, 1, 2, 1]
    assert set(comparison.answers) == {("variable", "fixed 10"), ("kelly", "kelly fixed 10")}
    by_name = {each.name: each for each in comparison.standings}
    for name in ("fixed 10", "kelly fixed 10"):
        assert sizes_of(by_name[name]) == {10}
    assert len(sizes_of(by_name["variable"])) > 1
    assert by_name["nothing"].profit == 0


def test_json_holds_every_figure_and_the_page_every_section(
    comparison: Comparison, tmp_path: Path
) -> None:
    result = result_of(comparison)
    for name, write in result.files.items():
        write(tmp_path / name)
    content = json.loads((tmp_path / "comparison.json").read_text())
    assert [answer["verdict"] in ("yes", "no", "no power") for answer in content["answers"]]
    random = next(run for run in content["runs"] if run["run"] == "random")
    low, high = random["profit_usd"]["interval"]
    assert low < random["profit_usd"]["value"] < high
    assert random["total_profit_usd"] == pytest.approx(25 * random["profit_usd"]["value"])
    assert set(random["sizes"]["position_size_distribution"]) <= {str(s) for s in POSITION_SIZES}
    page = (tmp_path / "comparison.html").read_text()
    for each in comparison.standings:
        assert f"<h2>Sizes: {each.name}</h2>" in page
    assert page.count("Size against profit") == 5
    assert page.count("No order was sent.") == 1
    for sentence in result.sentences[:2]:
        assert re.search(r"\? (Yes|No|No power): USD an episode", sentence)
        assert html.escape(sentence).replace("&#x27;", "&#39;") in page
    rest = without_scripts(page, "marketsimulator/runs.js")
    assert not re.search(r"<script|https?://(?!www\.w3\.org)", rest)


def recorded(folder: Path) -> Path:
    """Files of events with two markets each, an hour long."""
    quotes: list[Quote] = [
        (f"2026-11-{event + 1:02}T12:{minute:02}", f"RAIN-{event}-{market}", bid, bid + 2)
        for event in range(6)
        for market in range(2)
        for minute in range(0, 60, 5)
        for bid in [40 + (minute + event) % 7]
    ]
    settled = {name: int(name[5]) + int(name[7]) & 1 for _, name, *_ in quotes}
    return write_files(folder, quotes, settled)


def test_the_last_events_judge_and_the_markets_of_one_are_one_group(tmp_path: Path) -> None:
    folder = str(recorded(tmp_path))
    settings = replace(SMALL, folder=folder, judge_events=4)
    held_out = held_out_sessions(settings)
    assert held_out.groups.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert held_out.source == "recorded markets of RAIN-2, RAIN-3, RAIN-4, RAIN-5"
    assert compare(settings).standings[-1].profit == 0
    with pytest.raises(InputError, match="judge_events: 6 of 6 recorded events leave none"):
        held_out_sessions(replace(settings, judge_events=6))


def test_a_checkpoint_that_has_seen_what_judges_is_refused(tmp_path: Path) -> None:
    folder = str(recorded(tmp_path))
    settings = replace(SMALL, folder=folder, judge_events=4)
    taught = [
        checkpoint(tmp_path / f"after{k}", settings={"folder": ".", "train_events": k})
        for k in (2, 3)
    ]
    assert compare(replace(settings, variable=(taught[0],))).standings[0].name == "variable"
    with pytest.raises(InputError, match="after3: trained on the first 3 recorded events"):
        compare(replace(settings, variable=(taught[1],)))
    vague = checkpoint(tmp_path / "vague", settings={"folder": ".", "train_events": "many"})
    with pytest.raises(InputError, match="vague: its header does not say how many events"):
        compare(replace(settings, variable=(vague,)))
    synthetic = replace(SMALL, sessions=2, variable=(taught[1],))
    assert compare(synthetic).standings[0].name == "variable"


@pytest.mark.parametrize("key", ["variable", "fixed"])
def test_a_checkpoint_that_sends_other_orders_is_refused_by_name(key: str, tmp_path: Path) -> None:
    cut = checkpoint(tmp_path / "cut", fixed_size=20)
    assert cut in refusal_of("event_contracts.compare", f"{key}=[{cut}]", "output=no")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["output=there"], "comparison.json is a folder, a file's name is needed"),
        (["folder=nowhere"], "is no folder"),
        (["variable=[there]"], "variable: there: no checkpoint: "),
    ],
)
def test_a_refused_comparison_is_one_line_and_leaves_nothing(
    words: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "there" / "comparison.json").mkdir(parents=True)
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.chdir(tmp_path)
    usual = ["sessions=2", "runs=1", "episode.market.steps=10", "output=deep/in/out"]
    assert says in refusal_of("event_contracts.compare", *overridden(usual, words))
    assert sorted(tmp_path.rglob("*")) == before


def test_the_command_writes_a_page_and_its_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["sessions=3", "episode.market.steps=10", "output=out"]
    assert started("event_contracts.compare", *words) == 0
    assert "Does kelly earn more than 10% more than kelly fixed 10" in capsys.readouterr().out
    assert {path.name for path in Path("out").iterdir()} == {"comparison.html", "comparison.json"}
