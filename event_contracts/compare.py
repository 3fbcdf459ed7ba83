r"""Compare policies with variable order sizes, with one fixed size, and with Kelly sizing.

    python -m event_contracts.compare variable_checkpoints=[A.safetensors,…]
    fixed_checkpoints=[B.safetensors,…] \
        [folder=RECORDED] [key=value …]

Every policy plays every held-out session with the same money, fees and limits. Checkpoints of
several training seeds are runs of one policy. Random actions serve as a reference. The page
states whether the variable sizes earn over 10 % more than the fixed size, at a higher Sharpe ratio:
yes, no, or no power. It states the same for Kelly, which needs no training. If only one kind of
checkpoint is given, it is compared with Kelly at the same sizes.
"""

from __future__ import annotations

from foundation.cli import run_command

if __name__ == "__main__":
    run_command("event_contracts.compare")

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from event_contracts.settings import ComparisonSettings
from event_contracts.simulation.comparison import (
    MIN_EXCESS_PROFIT_SHARE,
    ComparedPolicy,
    Comparison,
    Estimate,
    HeldOutSessions,
    PairComparison,
    PolicyResult,
    compare_policies,
)
from event_contracts.simulation.recorded import list_event_tickers, recorded_markets
from event_contracts.simulation.settings import EpisodeSettings
from event_contracts.simulation.synthetic import synthetic_sessions
from event_contracts.trading.policies import (
    BinaryKellyPolicy,
    CheckpointInfo,
    RandomPolicy,
    load_network_policy,
)
from event_contracts.trading.position_sizes import (
    SIZE_METRIC_FORMATS,
    PositionSizeMetrics,
    build_order_size_report,
)
from forecasting.forecast import Progress, no_progress
from foundation.cli import Result
from foundation.errors import InputError
from foundation.files import file_digest
from foundation.formatting import (
    NumberFormatter,
    format_count,
    format_interval,
    format_number,
    format_percent,
    format_usd,
)
from foundation.tables import Cell, Table, format_json
from marketsimulator.results.comparison_page import ComparisonPage
from marketsimulator.results.significance import CONFIDENCE_LEVEL, MIN_DAYS_FOR_INTERVALS
from marketsimulator.results.verdict import Verdict

HELD_OUT_SEED = 1923  # separate from training, which draws its synthetic sessions from one number
VARIABLE_SIZE_POLICY_NAME = "variable"
KELLY_POLICY_NAME = "kelly"
RANDOM_RUNS = 3  # runs of the random policy, each with its own seed
TABLE_HEADERS = (
    *("run", "growth", "profit, USD", "Sharpe", "orders", "fills"),
    *(head for _, head, _, _ in SIZE_METRIC_FORMATS),
)
USD_FORMATTER = partial(format_number, sign=True)
RATIO_FORMATTER = partial(format_number, places=3, sign=True)
VERDICT_LEVELS: Mapping[str, Any] = {"yes": "good", "no": "bad", "no power": "open"}


def load_held_out_sessions(settings: ComparisonSettings) -> HeldOutSessions:
    """Return the held-out sessions: synthetic ones, or the markets of the last recorded events.

    Synthetic sessions have a seed that training never uses.
    """
    if settings.folder is not None:
        markets = recorded_markets(settings.folder)
        events = list_event_tickers(markets, settings.holdout_events, "holdout_events")
        last = events[-settings.holdout_events :]
        judging = [market for market in markets if market.event in last]
        return HeldOutSessions(
            sessions=[market.session for market in judging],
            group_indices=np.array([last.index(market.event) for market in judging]),
            source=f"recorded markets of {', '.join(last)}",
            earlier_event_count=len(events) - settings.holdout_events,
        )
    market = settings.episode.market
    drawn = synthetic_sessions((HELD_OUT_SEED, settings.seed), settings.sessions, market)
    return HeldOutSessions(
        sessions=list(drawn),
        group_indices=np.arange(settings.sessions),
        source=f"{settings.sessions} synthetic sessions, seed {settings.seed}: {market}",
    )


def build_compared_policies(
    settings: ComparisonSettings, held_out_sessions: HeldOutSessions
) -> list[ComparedPolicy]:
    """Return the policies to compare: checkpoints, Kelly, and random actions.

    Kelly plays once with all sizes and once with the fixed size.
    """
    every = settings.episode
    single = replace(every, fixed_size=settings.fixed_size)
    fixed, kelly_fixed = _fixed_size_names(settings)
    policies = [
        _load_trained_policy(name, paths, episode, held_out_sessions)
        for name, paths, episode in (
            (VARIABLE_SIZE_POLICY_NAME, settings.variable_checkpoints, every),
            (fixed, settings.fixed_checkpoints, single),
        )
        if paths
    ]
    for name, episode in ((KELLY_POLICY_NAME, every), (kelly_fixed, single)):
        kelly = BinaryKellyPolicy(
            episode.default_action_space(), episode.starting_cash, settings.kelly_fraction
        )
        policies.append(ComparedPolicy(name, (kelly,), episode))
    chance = tuple(RandomPolicy(settings.seed + k) for k in range(RANDOM_RUNS))
    return [*policies, ComparedPolicy("random", chance, every)]


def list_policy_pairs(settings: ComparisonSettings) -> list[tuple[str, str]]:
    """Return pairs of policy names to compare; the page's verdict is that of the first pair.

    The pairs are, in this order and as far as they are given:

    - checkpoints with variable sizes, and with the fixed size; if only one kind is given, that kind
      and Kelly at the same sizes
    - Kelly at all sizes, and at the fixed size (always)
    """
    fixed, kelly_fixed = _fixed_size_names(settings)
    kelly = (KELLY_POLICY_NAME, kelly_fixed)
    if settings.variable_checkpoints:
        other = fixed if settings.fixed_checkpoints else KELLY_POLICY_NAME
        return [(VARIABLE_SIZE_POLICY_NAME, other), kelly]
    return [(fixed, kelly_fixed), kelly] if settings.fixed_checkpoints else [kelly]


def _fixed_size_names(settings: ComparisonSettings) -> tuple[str, str]:
    """Return the names of the trained policy and of Kelly with the fixed size."""
    name = f"fixed {settings.fixed_size}"
    return name, f"{KELLY_POLICY_NAME} {name}"


def _load_trained_policy(
    name: str, paths: tuple[str, ...], episode: EpisodeSettings, held_out: HeldOutSessions
) -> ComparedPolicy:
    """Group the checkpoints at `paths` into one policy, with one run per checkpoint.

    Raises InputError for an unreadable or repeated checkpoint, and for one that was trained with
    other order settings or on held-out events.
    """
    try:
        policies = tuple(load_network_policy(path) for path in paths)
    except InputError as error:
        key = "variable_checkpoints" if name == VARIABLE_SIZE_POLICY_NAME else "fixed_checkpoints"
        raise InputError(
            f"{key}: {error}; give checkpoints written by event_contracts.train"
        ) from error
    for path, policy in zip(paths, policies, strict=True):
        about = policy.checkpoint_info
        if why := about.incompatibility_reason(episode):
            raise InputError(f"{path}, {name}: {why}")
        _check_unseen(path, about, held_out)
    if len({file_digest(Path(path)) for path in paths}) < len(paths):
        raise InputError(
            f"{name}: the same checkpoint is listed more than once; give one per training run"
        )
    return ComparedPolicy(name, policies, episode)


def _check_unseen(path: str, about: CheckpointInfo, held_out: HeldOutSessions) -> None:
    """Raise InputError if a checkpoint was trained on recorded events that are held out."""
    if held_out.earlier_event_count is None:
        return
    events = 0
    for run in about.training_run_settings:
        if run.get("folder") or run.get("recorded"):
            count = run.get("train_events")
            if not isinstance(count, int):
                raise InputError(
                    f"{path}: the checkpoint does not state its number of training events; train"
                    " it again"
                )
            events = max(events, count)
    if events > held_out.earlier_event_count:
        raise InputError(
            f"{path}: the checkpoint has seen the first {events} recorded events, but all after"
            f" the first {held_out.earlier_event_count} are held out; reduce holdout_events, or"
            " train on fewer events"
        )


def run_comparison(settings: ComparisonSettings, *, progress: Progress = no_progress) -> Comparison:
    """Compare the configured policies over held-out sessions.

    progress: called after each run.
    """
    held_out = load_held_out_sessions(settings)
    entrants = build_compared_policies(settings, held_out)
    pairs = list_policy_pairs(settings)
    return compare_policies(entrants, held_out, pairs, seed=settings.seed, progress=progress)


def run(settings: ComparisonSettings, progress: Progress) -> Result:
    return build_result(run_comparison(settings, progress=progress))


def build_result(comparison: Comparison) -> Result:
    """Return the command's result: verdicts, a table with one row per policy, and files to write.

    The files are comparison.html, a page, and comparison.json, its figures.
    """
    standings = comparison.policy_results
    sizes = {each.name: PositionSizeMetrics.from_episodes(each.episodes) for each in standings}
    first, *others = (
        _format_verdict(pair, answer) for pair, answer in comparison.pair_comparisons.items()
    )
    level = VERDICT_LEVELS[next(iter(comparison.pair_comparisons.values())).verdict]
    groups = comparison.held_out_sessions.group_count
    verb = "is" if groups == 1 else "are"
    few = f"{format_count(groups, 'group')} {verb} fewer than {MIN_DAYS_FOR_INTERVALS}"
    warning = f"{few}: no figure has a confidence interval, and no comparison has a verdict."
    source = comparison.held_out_sessions.source
    sheet = ComparisonPage(
        title="Policies over the same held-out sessions",
        subtitle=source,
        verdict=Verdict(level, first, " ".join(others)),
        table=Table(
            source,
            TABLE_HEADERS,
            [(each.name, *_build_policy_cells(each, sizes[each.name])) for each in standings],
        ),
        warnings=[warning] if groups < MIN_DAYS_FOR_INTERVALS else [],
        notes=_list_table_notes(comparison),
    )
    views = {each.name: build_order_size_report(each.episodes) for each in standings}
    page = sheet.render("event_contracts/policies.html.j2", views=views)
    text = format_json(_build_json_content(comparison, sizes))
    files: dict[str, Callable[[Path], object]] = {
        "comparison.json": lambda path: path.write_text(text, encoding="utf-8"),
        "comparison.html": lambda path: path.write_text(page, encoding="utf-8"),
    }
    return Result([sheet.table], [first, *others, *sheet.warnings, *sheet.notes], files)


def _build_policy_cells(standing: PolicyResult, sizes: PositionSizeMetrics) -> tuple[Cell, ...]:
    """Return the cells of a policy's row, one for each of `TABLE_HEADERS` after the name."""
    return (
        _estimate_cell(standing.growth, partial(format_percent, places=3, sign=True)),
        _estimate_cell(standing.profit_usd, USD_FORMATTER),
        _estimate_cell(standing.sharpe, RATIO_FORMATTER),
        Cell(format_number(standing.orders_per_episode, 1)),
        Cell(format_number(standing.fills_per_episode, 1)),
        # The histogram shows how many orders each size had.
        *(Cell(words(getattr(sizes, name))) for name, _, _, words in SIZE_METRIC_FORMATS),
    )


def _estimate_cell(estimate: Estimate, words: NumberFormatter) -> Cell:
    """Return a table cell that shows an estimate, with its confidence interval below.

    words: formatter of the value and of the interval's bounds.
    """
    return Cell(words(estimate.value), subtext=format_interval(estimate.interval, words, " … "))


def _format_verdict(pair: tuple[str, str], answer: PairComparison) -> str:
    """Return a sentence with the verdict on a pair of policies, and its confidence intervals."""
    one, other = pair
    excess = _estimate_cell(answer.excess_usd, USD_FORMATTER)
    sharpe = _estimate_cell(answer.sharpe_difference, RATIO_FORMATTER)
    return (
        f"Does {one} earn over {format_percent(MIN_EXCESS_PROFIT_SHARE, 0)} more than {other}, at"
        " a higher"
        f" Sharpe ratio? {answer.verdict.capitalize()}: profit above that threshold {excess} USD an"
        f" episode; difference of the Sharpe ratios {sharpe}."
    )


def _list_table_notes(comparison: Comparison) -> list[str]:
    """Return notes that explain the figures and verdicts of the table."""
    groups = comparison.held_out_sessions.group_count
    return [
        f"Figures are per episode, which starts with {format_usd(comparison.starting_cash)}: mean"
        " log"
        " growth of the account, mean profit after fees, and the Sharpe ratio (not annualised)."
        f" Below them are {format_percent(CONFIDENCE_LEVEL, 0)} confidence intervals: a bootstrap"
        " of"
        f" {format_count(len(comparison.held_out_sessions.sessions), 'session')} in"
        f" {format_count(groups, 'independent group')}, and of the runs of a policy.",
        "Yes: both differences are significantly above 0. No: one is significantly below 0."
        " No power: these sessions do not decide it.",
    ]


def _build_json_content(
    comparison: Comparison, sizes: Mapping[str, PositionSizeMetrics]
) -> dict[str, Any]:
    """Return the content of comparison.json: money in USD, growth and returns as fractions.

    sizes: metrics of order sizes, by policy name.
    """
    held_out = comparison.held_out_sessions
    return {
        "data": held_out.source,
        "sessions": len(held_out.sessions),
        "groups": held_out.group_count,
        "starting_cash": comparison.starting_cash,
        "interval": CONFIDENCE_LEVEL,
        "runs": [
            {
                "run": each.name,
                "seeds": each.run_count,
                "growth": asdict(each.growth),
                "profit_usd": asdict(each.profit_usd),
                "sharpe": asdict(each.sharpe),
                "orders": each.orders_per_episode,
                "fills": each.fills_per_episode,
                "sizes": sizes[each.name].as_json(),
            }
            for each in comparison.policy_results
        ],
        "answers": [
            {"run": one, "against": other, **asdict(answer)}
            for (one, other), answer in comparison.pair_comparisons.items()
        ],
    }
