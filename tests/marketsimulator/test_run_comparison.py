"""Runs that were made before, side by side: what is compared, what is said, what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from omegaconf import OmegaConf

from foundation.arrays import Array
from foundation.errors import InputError
from foundation.files import DIGESTS_KEY, write_files_atomically
from foundation.formatting import NO_VALUE
from marketsimulator.results.comparison import Comparison, compare_records
from marketsimulator.results.comparison_page import colours_by_run, growth_chart
from marketsimulator.results.metrics import measure_daily_performance
from marketsimulator.results.multirun import MultirunFolderCheck
from marketsimulator.results.run_record import LIVE_RUN_TITLE, find_run_folders, read_run_record
from marketsimulator.results.run_set import RunSet, compare_best_run, comparison_verdict
from marketsimulator.results.significance import deflated_sharpe, estimate_overfitting
from tests.e2e.refused import answer_of, refusal_of
from tests.marketsimulator.run_folder_files import write_run
from tests.support.messages import check_message, refused
from tests.support.pages import without_scripts

RNG = np.random.default_rng(5)
NOISE = RNG.normal(0.0005, 0.01, (70, 80))


def comparison_of(*folders: Path) -> Comparison:
    return compare_records([read_run_record(path) for path in find_run_folders(folders)])


def set_of(returns: Array) -> RunSet:
    """Runs with these daily returns [V, D]."""
    count, days = returns.shape
    daily = np.cumprod(np.concatenate([np.ones((count, 1)), 1 + returns], axis=1), axis=1)
    deviation = returns.std(axis=1, ddof=1)
    return RunSet(
        names=tuple(f"run-{k}" for k in range(count)),
        varied_settings={},
        instants=np.datetime64("2024-01-02T21:00", "ns")
        + np.arange(days + 1) * np.timedelta64(1, "D"),
        daily_equity=daily,
        days_per_year=252,
        table=pd.DataFrame(
            {
                "sharpe": returns.mean(axis=1) / deviation * np.sqrt(252),
                "annual_figures": days >= 60,
                "deflated_sharpe": 0.5,
                "trials": count,
            }
        ),
        overfitting=estimate_overfitting(returns),
        seed=0,
    )


def test_comparison_deflates_a_run_as_its_report_does(tmp_path: Path) -> None:
    write_run(tmp_path / "a", returns=NOISE[0], trials=5)
    write_run(tmp_path / "b", returns=NOISE[1], trials=7)
    comparison = comparison_of(tmp_path)
    found = measure_daily_performance(np.cumprod(np.append(1.0, 1 + NOISE[1])), 252)
    expected = deflated_sharpe(found, 7)
    assert comparison.table["deflated_sharpe"][1] == pytest.approx(expected)
    assert "Deflated Sharpe (7 trials)" in comparison.terminal_table().headings


def test_comparing_a_live_account_adds_no_trial(tmp_path: Path) -> None:
    tried = [write_run(tmp_path / name, returns=NOISE[k]) for k, name in enumerate("abc")]
    live = write_run(tmp_path / "live", returns=NOISE[3] - 0.01, title=LIVE_RUN_TITLE, trials=None)
    alone = comparison_of(*tried)
    beside = comparison_of(*tried, live)
    assert (beside.table["trials"] == 3).all()
    assert beside.table["deflated_sharpe"][:3].tolist() == alone.table["deflated_sharpe"].tolist()
    other = write_run(tmp_path / "other", returns=NOISE[4], title=LIVE_RUN_TITLE, trials=None)
    pair = comparison_of(live, other).table
    assert (pair["trials"] == 0).all()
    assert pair["deflated_sharpe"].between(0, 1).all()


def test_runs_are_compared_over_their_common_days(tmp_path: Path) -> None:
    early = write_run(tmp_path / "early", start="2024-01-02", returns=NOISE[0])
    late = write_run(tmp_path / "late", start="2024-02-05", returns=NOISE[1])
    found = comparison_of(early, late)
    overlap = read_run_record(early).daily_equity_curve()[1][-found.run_set.days - 1 :]
    alone = measure_daily_performance(overlap, found.run_set.days_per_year)
    assert found.table["sharpe"][0] == pytest.approx(alone.sharpe)
    assert found.table["total_return"][0] == pytest.approx(overlap[-1] / overlap[0] - 1)
    assert "costs" not in found.table
    [warning] = found.warnings
    assert f"{found.run_set.days} common days from 2024-02-05" in warning
    later = write_run(tmp_path / "later", start="2024-08-09", returns=NOISE[1][:5])
    with refused(InputError, "16:00"):
        comparison_of(early, later)


def test_differences_by_chance_are_not_significant() -> None:
    level = np.random.default_rng(1).normal(0, 0.01, (2, 120))
    runs = set_of(level - level.mean(axis=1, keepdims=True) + [[0.0002], [0.0001]])
    found = compare_best_run(runs)
    assert found.relations == ("best", "not_significant")
    verdict = comparison_verdict(runs, found)
    assert verdict.claim == "run-0 has no significant difference from run-1."
    assert (verdict.level, "luck is not ruled out" in verdict.evidence) == ("open", True)


@pytest.mark.slow
def test_best_of_many_random_runs_is_rarely_significant() -> None:
    """With pairwise tests the best of 20 equal runs would be significant in each of these sets."""
    claims = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        found = compare_best_run(set_of(rng.normal(0, 0.01, 120) + rng.normal(0, 0.01, (20, 120))))
        claims += bool({"ahead", "behind"} & set(found.relations))
    assert claims <= 5, "10 % of them are expected"


def test_short_run_shows_no_yearly_figures(tmp_path: Path) -> None:
    found = comparison_of(*(write_run(tmp_path / str(k), returns=NOISE[k][:59]) for k in range(4)))
    page = found.render_page(tmp_path)
    table = page[page.index('<table class="sortable">') : page.index("</table>")]
    assert table.count(f">{NO_VALUE}</td>") == 1, "the best's lead"
    assert table.count("(short)") == 8, "both ratios of each"
    assert (
        "Only 59 days: no annual figures below 30 fills or 60 days; ratios are marked short."
        in page
    )
    trades = {"one": 30, "two": 30, "idle": 29}
    mixed = comparison_of(
        *(write_run(tmp_path / n, returns=NOISE[1][:60], trades=k) for n, k in trades.items())
    )
    assert mixed.table["annual_figures"].tolist() == [True, True, False]
    assert "Fewer than 30 fills: idle; no annual figures" in mixed.render_page(tmp_path)


def test_short_and_ruined_runs_are_labelled_as_such() -> None:
    returns = NOISE[:3, :12].copy()
    returns[2, 3] = -1.0
    runs = set_of(returns)
    runs.daily_equity[2, 4:] = 0.0
    found = compare_best_run(runs)
    assert sorted(found.relations) == ["best", "insufficient_data", "ruined"]
    assert "Wiped out: run-2." in comparison_verdict(runs, found).evidence


def test_comparison_page_escapes_hostile_run_names(tmp_path: Path) -> None:
    hostile = tmp_path / "<script>alert(1)<"
    folders = [write_run(hostile, returns=NOISE[0]), write_run(tmp_path / "b", returns=NOISE[1])]
    page = comparison_of(*folders).render_page(tmp_path)
    assert "<script" not in without_scripts(page, "marketsimulator/runs.js")
    assert "&lt;script&gt;alert(1)" in page


@pytest.mark.parametrize("held", ["summary.json", "notes.txt"])
def test_multirun_refuses_a_folder_with_foreign_files(
    held: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / held).write_text("")
    config = OmegaConf.create({"hydra": {"sweep": {"dir": str(tmp_path)}}, "overwrite": False})
    with pytest.raises(SystemExit) as ended:
        MultirunFolderCheck().on_multirun_start(config)
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    check_message(line, "hydra.sweep.dir", tmp_path, held)
    (tmp_path / "multirun.yaml").write_text("")
    MultirunFolderCheck().on_multirun_start(config)


def test_comparison_is_one_json_document(tmp_path: Path) -> None:
    for seed, name in enumerate(("one", "two")):
        returns = np.random.default_rng(seed).normal(0.0, 0.01, 80)
        write_run(tmp_path / name, returns=returns)
    words = ("one", "two", "output=out", "--json")
    code, printed, _ = answer_of("marketsimulator.compare", *words, cwd=tmp_path)
    assert code == 0
    assert json.loads(printed) == json.loads((tmp_path / "out" / "comparison.json").read_text())
    line = refusal_of("marketsimulator.compare", "-m", "seed=1,2", "--json", cwd=tmp_path)
    check_message(line, "--json", "--multirun")


def test_comparison_writes_a_page_and_json_figures(tmp_path: Path) -> None:
    for k, name in enumerate("abc"):
        write_run(tmp_path / name, returns=NOISE[k], settings={"sizing": {"fraction": k}})
    compared_runs = comparison_of(*(tmp_path / name for name in "abc"))
    write_files_atomically(compared_runs.file_writers(), tmp_path / "out")
    found = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert found["runs"][0]["against_best"] == "best"
    assert found["verdict"].startswith(found["runs"][0]["run"])
    assert {row["settings"]["sizing.fraction"] for row in found["runs"]} == {0, 1, 2}
    assert (tmp_path / "out" / "comparison.html").exists()


DAMAGE: list[tuple[Callable[[Path], object], tuple[str, ...]]] = [
    (lambda run: (run / "summary.json").unlink(), ("summary.json",)),
    (lambda run: (run / "summary.json").write_text("{"), ("summary.json", "JSON")),
    (lambda run: resummed(run, costs=None), ("costs", "None")),
    (lambda run: resummed(run, trades=True), ("trades", "True")),
    (lambda run: resummed(run, costs=float("nan")), ("costs", "nan")),
    (lambda run: resummed(run, **{DIGESTS_KEY: {"equity.parquet": "0" * 64}}), ()),
    (lambda run: (run / "equity.parquet").write_text("no"), ("equity.parquet",)),
    (lambda run: (run / "equity.parquet").unlink(), ("equity.parquet",)),
    (lambda run: (run / "config.yaml").write_text("a: ["), ("config.yaml",)),
    (lambda run: reverse_rows(run / "equity.parquet"), ()),
]


def reverse_rows(path: Path) -> None:
    pd.read_parquet(path)[::-1].to_parquet(path)


def resummed(run: Path, **changes: Any) -> None:
    path = run / "summary.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(("damage", "facts"), DAMAGE)
def test_incomparable_runs_are_refused_in_one_line(
    damage: Callable[[Path], object], facts: tuple[str, ...], tmp_path: Path
) -> None:
    runs = write_run(tmp_path / "a"), write_run(tmp_path / "b")
    damage(runs[1])
    with refused(InputError, *facts) as caught:
        comparison_of(*runs)
    assert "\n" not in str(caught.value)


TAILED = np.random.default_rng(7).normal(0.0005, 0.01, (6, 80))


def test_comparison_table_and_curves_agree_on_total_returns(tmp_path: Path) -> None:
    tails = (0.05, -0.04, 0.0)
    found = comparison_of(
        *(write_run(tmp_path / f"r{k}", returns=TAILED[k], tail=tails[k]) for k in range(3))
    )
    runs, totals = found.run_set, found.table["total_return"].to_numpy()
    assert runs.instants[-1] == found.records[0].instants[-1]
    np.testing.assert_allclose(runs.cumulative_returns[:, -1], totals, rtol=1e-12)
    chart = growth_chart(runs, colours_by_run(runs))
    assert all(f"{name} {total:.2%}" in chart.description
               for name, total in zip(runs.names, totals, strict=True))  # fmt: skip
    told = compare_best_run(runs)
    for k, outperformance in enumerate(told.outperformances):
        if outperformance is not None:
            ahead = (1 + totals[k]) / (1 + totals[told.best_run_index]) - 1
            assert outperformance.lead == pytest.approx(ahead, rel=1e-9)
    assert [row["outperformance"] is None for row in found.summary()["runs"]] == [
        True,
        False,
        False,
    ]


def test_runs_are_compared_to_their_last_common_close(tmp_path: Path) -> None:
    one = write_run(tmp_path / "one", returns=TAILED[0], tail=0.2)
    other = write_run(tmp_path / "other", returns=TAILED[1], tail=-0.2, hours=4)
    found = comparison_of(one, other)
    totals = np.prod(1 + TAILED[:2, :-1], axis=1) - 1
    np.testing.assert_allclose(found.table["total_return"], totals, rtol=1e-9)
    assert any("cover different periods" in warning for warning in found.warnings)


def test_runs_differing_after_last_close_are_not_equal(tmp_path: Path) -> None:
    folders = [write_run(tmp_path / f"r{k}", returns=TAILED[0], tail=-0.01 * k) for k in range(2)]
    found = comparison_of(*folders).best_run_comparison
    assert found.relations == ("best", "not_significant")
    runs = set_of(TAILED[[0, 0]])
    assert compare_best_run(runs).relations == ("best", "same")


def test_run_ruined_after_last_close_is_labelled_ruined(tmp_path: Path) -> None:
    folders = [write_run(tmp_path / f"r{k}", returns=TAILED[0], tail=-1.0 * k) for k in range(2)]
    assert comparison_of(*folders).best_run_comparison.relations == ("best", "ruined")


def test_smallest_loss_ranks_best_when_all_runs_lose() -> None:
    """Of two losing runs the more volatile one has the higher ratio."""
    swings = np.tile([0.02, -0.02], 20)
    runs = set_of(np.array([swings - 0.004, 0.1 * swings - 0.003]))
    assert (runs.table["sharpe"].argmax(), compare_best_run(runs).best_run_index) == (0, 1)
    assert (
        "All runs lost money: ranked by total return"
        in comparison_verdict(runs, compare_best_run(runs)).evidence
    )
