r"""Compare policies with variable order sizes, with one fixed size, and with Kelly sizing.

    python -m event_contracts.compare variable_checkpoints=[A.safetensors,…]
    fixed_checkpoints=[B.safetensors,…] \
        [folder=RECORDED] [key=value …]

Every policy plays every held-out session with the same money, fees and limits. Checkpoints of
several training seeds are runs of one policy. Random actions and HOLD serve as references. The page
states whether the variable sizes earn over 10 % more than the fixed size, at a higher Sharpe ratio:
yes, no, or no power. It states the same for Kelly, which needs no training. If only one kind of
checkpoint is given, it is compared with Kelly at the same sizes.

    python -m event_contracts.compare journal=ACCOUNT/journal.sqlite [fixed_size=10]

With a journal the sessions are the settled markets of that account. Its decisions are replayed in
these markets, once at the recorded sizes and once at `fixed_size`. Every policy trades at recorded
ticks only. A further row shows the result that the account itself booked.
`episode` has to state the limits, fees and order settings that the account traded with.
"""

from __future__ import annotations

from foundation.cli import run_command

if __name__ == "__main__":
    run_command("event_contracts.compare")

import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from decimal import Decimal
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from event_contracts.settings import ComparisonSettings
from event_contracts.simulation.comparison import (
    MIN_EXCESS_PROFIT_SHARE,
    BookedResult,
    ComparedPolicy,
    Comparison,
    Estimate,
    HeldOutSessions,
    PairComparison,
    PolicyResult,
    compare_policies,
)
from event_contracts.simulation.recorded import list_event_tickers, recorded_markets
from event_contracts.simulation.sessions import tick_records_to_session
from event_contracts.simulation.settings import EpisodeSettings
from event_contracts.simulation.synthetic import synthetic_sessions
from event_contracts.trading.action_log import ACTION_TABLE_NAME, ActionRecords
from event_contracts.trading.actions import POSITION_SIZES, LimitOrderActionSpace
from event_contracts.trading.actor import MarketHistory
from event_contracts.trading.manager import ORDER_LIFE
from event_contracts.trading.orders import EventContractOrder
from event_contracts.trading.policies import (
    ActionCodes,
    BinaryKellyPolicy,
    CheckpointInfo,
    HoldPolicy,
    Observations,
    RandomPolicy,
    load_network_policy,
)
from event_contracts.trading.position_sizes import (
    SIZE_METRIC_FORMATS,
    PositionSizeMetrics,
    build_order_size_report,
)
from execution.journal.order_store import read_intents
from execution.journal.schema import open_journal_for_reading
from forecasting.forecast import Progress, no_progress
from foundation.arrays import Array, Index, Mask
from foundation.cli import Result
from foundation.decimals import CENT
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
from foundation.tables import Cell, Row, Table, format_json
from marketsimulator.results.comparison_page import ComparisonPage
from marketsimulator.results.significance import CONFIDENCE_LEVEL, MIN_DAYS_FOR_INTERVALS
from marketsimulator.results.verdict import Verdict

HELD_OUT_SEED = 1923  # separate from training, which draws its synthetic sessions from one number
VARIABLE_SIZE_POLICY_NAME = "variable"
KELLY_POLICY_NAME = "kelly"
REPLAYED_ACCOUNT_POLICY_NAME = "account's policy, replayed"
TABLE_HEADERS = (
    *("run", "growth", "profit, USD", "Sharpe", "orders", "fills"),
    *(head for _, head, _, _ in SIZE_METRIC_FORMATS),
)
BOOKED_RESULT_LABEL = "account, as booked"
NO_FILLS_WARNING = "No policy has a fill in these sessions, so the figures compare nothing."
USD_FORMATTER = partial(format_number, sign=True)
RATIO_FORMATTER = partial(format_number, places=3, sign=True)
VERDICT_LEVELS: Mapping[str, Any] = {"yes": "good", "no": "bad", "no power": "open"}


def load_held_out_sessions(settings: ComparisonSettings) -> HeldOutSessions:
    """Return the held-out sessions: synthetic ones, or the markets of the last recorded events.

    Synthetic sessions have a seed that training never uses.
    """
    if settings.folder is not None:
        return _read_recorded_sessions(settings, settings.folder)
    market = settings.episode.market
    drawn = synthetic_sessions((HELD_OUT_SEED, settings.seed), settings.sessions, market)
    return HeldOutSessions(
        sessions=list(drawn),
        group_indices=np.arange(settings.sessions),
        source=f"{settings.sessions} synthetic sessions, seed {settings.seed}: {market}",
    )


def _read_recorded_sessions(settings: ComparisonSettings, folder: str) -> HeldOutSessions:
    markets = recorded_markets(folder)
    events = list_event_tickers(markets, settings.holdout_events, "holdout_events")
    last = events[-settings.holdout_events :]
    judging = [market for market in markets if market.event in last]
    return HeldOutSessions(
        sessions=[market.session for market in judging],
        group_indices=np.array([last.index(market.event) for market in judging]),
        source=f"recorded markets of {', '.join(last)}",
        earlier_event_count=len(events) - settings.holdout_events,
    )


def build_compared_policies(
    settings: ComparisonSettings,
    held_out_sessions: HeldOutSessions,
    journaled_decisions: JournaledDecisions | None = None,
) -> list[ComparedPolicy]:
    """Return the policies to compare: account, checkpoints, Kelly, random actions and HOLD.

    The replayed account and Kelly play once with all sizes and once with the fixed size.

    journaled_decisions: decisions to replay; None without a journal.
    """
    every = settings.episode
    single = replace(every, fixed_size=settings.fixed_size)
    entrants = []
    if journaled_decisions is not None:
        index = every.position_sizes.index(settings.fixed_size)
        entrants.append(
            ComparedPolicy(
                REPLAYED_ACCOUNT_POLICY_NAME, (journaled_decisions.build_replay_policy(),), every
            )
        )
        entrants.append(
            ComparedPolicy(
                settings.append_fixed_size(REPLAYED_ACCOUNT_POLICY_NAME),
                (journaled_decisions.build_replay_policy(index),),
                single,
            )
        )
    if settings.variable_checkpoints:
        entrants.append(
            _load_trained_policy(
                VARIABLE_SIZE_POLICY_NAME, settings.variable_checkpoints, every, held_out_sessions
            )
        )
    if settings.fixed_checkpoints:
        entrants.append(
            _load_trained_policy(
                settings.fixed_size_policy_name,
                settings.fixed_checkpoints,
                single,
                held_out_sessions,
            )
        )
    for name, episode in (
        (KELLY_POLICY_NAME, every),
        (settings.append_fixed_size(KELLY_POLICY_NAME), single),
    ):
        policy = BinaryKellyPolicy(
            episode.default_action_space(), episode.starting_cash, settings.kelly_fraction
        )
        entrants.append(ComparedPolicy(name, (policy,), episode))
    chance = tuple(RandomPolicy(settings.seed + k) for k in range(settings.random_runs))
    return [
        *entrants,
        ComparedPolicy("random", chance, every),
        ComparedPolicy("nothing", (HoldPolicy(),), every),
    ]


def list_policy_pairs(
    settings: ComparisonSettings, journaled_decisions: JournaledDecisions | None = None
) -> list[tuple[str, str]]:
    """Return pairs of policy names to compare; the page's verdict is that of the first pair.

    The pairs are, in this order and as far as they are given:

    - the replayed account at its recorded sizes, and at the fixed size
    - checkpoints with variable sizes, and with the fixed size; if only one kind is given, that kind
      and Kelly at the same sizes
    - Kelly at all sizes, and at the fixed size (always)
    """
    kelly, kelly_fixed = KELLY_POLICY_NAME, settings.append_fixed_size(KELLY_POLICY_NAME)
    pairs = (
        []
        if journaled_decisions is None
        else [
            (REPLAYED_ACCOUNT_POLICY_NAME, settings.append_fixed_size(REPLAYED_ACCOUNT_POLICY_NAME))
        ]
    )
    if settings.variable_checkpoints and settings.fixed_checkpoints:
        pairs.append((VARIABLE_SIZE_POLICY_NAME, settings.fixed_size_policy_name))
    elif settings.variable_checkpoints:
        pairs.append((VARIABLE_SIZE_POLICY_NAME, kelly))
    elif settings.fixed_checkpoints:
        pairs.append((settings.fixed_size_policy_name, kelly_fixed))
    return [*pairs, (kelly, kelly_fixed)]


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
    """Compare the configured policies over held-out sessions, or over a journal's settled markets.

    progress: called after each run.
    """
    account = None
    if settings.journal is not None:
        path = Path(settings.journal).expanduser()
        account = read_journaled_decisions(path, settings.episode.default_action_space())
        episode = replace(settings.episode, starting_cash=float(account.starting_cash))
        settings = replace(settings, episode=episode)
    held_out = load_held_out_sessions(settings) if account is None else account.held_out_sessions
    entrants = build_compared_policies(settings, held_out, account)
    pairs = list_policy_pairs(settings, account)
    found = compare_policies(entrants, held_out, pairs, seed=settings.seed, progress=progress)
    return found if account is None else replace(found, booked_result=account.booked_result)


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
        verdict=Verdict(level, first, " ".join([*others, *_format_booked_result(comparison)])),
        table=Table(source, TABLE_HEADERS, _build_table_rows(comparison, sizes)),
        warnings=[
            *([] if comparison.has_fills else [NO_FILLS_WARNING]),
            *([warning] if groups < MIN_DAYS_FOR_INTERVALS else []),
        ],
        notes=_list_table_notes(comparison),
    )
    views = {each.name: build_order_size_report(each.episodes) for each in standings}
    page = sheet.render("event_contracts/policies.html.j2", views=views)
    text = format_json(_build_json_content(comparison, sizes))
    files: dict[str, Callable[[Path], object]] = {
        "comparison.json": lambda path: path.write_text(text, encoding="utf-8"),
        "comparison.html": lambda path: path.write_text(page, encoding="utf-8"),
    }
    sentences = [first, *others, *_format_booked_result(comparison), *sheet.warnings, *sheet.notes]
    return Result([sheet.table], sentences, files)


def _build_table_rows(
    comparison: Comparison, sizes: Mapping[str, PositionSizeMetrics]
) -> list[Row]:
    """Return the table's rows: the account's booked result, if any, then one row per policy.

    sizes: metrics of order sizes, by policy name.
    """
    rows = _build_booked_rows(comparison)
    for each in comparison.policy_results:
        rows.append((each.name, *_build_policy_cells(each, sizes[each.name])))
    return rows


def _build_booked_rows(comparison: Comparison) -> list[Row]:
    """Return a list with the row of the account's booked result; empty without a journal."""
    booked = comparison.booked_result
    if booked is None:
        return []
    count = len(comparison.held_out_sessions.sessions)
    cells = {
        "profit, USD": Cell(USD_FORMATTER(float(booked.profit) / count)),
        "orders": Cell(format_number(booked.accepted_order_count / count, 1)),
    }
    return [
        (
            BOOKED_RESULT_LABEL,
            *(cells.get(head, Cell(format_number(None))) for head in TABLE_HEADERS[1:]),
        )
    ]


def _format_booked_result(comparison: Comparison) -> list[str]:
    """Return a list with a sentence on the account's booked result; empty without a journal."""
    booked = comparison.booked_result
    if booked is None:
        return []
    missing = (
        f"; the venue states no profit for {', '.join(booked.markets_without_stated_profit)}"
        if booked.markets_without_stated_profit
        else ""
    )
    return [
        f"{BOOKED_RESULT_LABEL}: settled profit {format_usd(booked.profit, sign=True)};"
        f" {booked.filled_order_count} of"
        f" {format_count(booked.accepted_order_count, 'order')} had"
        f" fills{missing}. The other rows are replays."
    ]


def _build_policy_cells(standing: PolicyResult, sizes: PositionSizeMetrics) -> tuple[Cell, ...]:
    """Return the cells of a policy's row, one for each of `TABLE_HEADERS` after the name."""
    figures = standing.performance
    return (
        _estimate_cell(figures.growth, partial(format_percent, places=3, sign=True)),
        _estimate_cell(figures.profit_usd, USD_FORMATTER),
        _estimate_cell(figures.sharpe, RATIO_FORMATTER),
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


def _booked_result_json(booked: BookedResult | None) -> dict[str, Any] | None:
    if booked is None:
        return None
    return {
        "run": BOOKED_RESULT_LABEL,
        "total_profit_usd": float(booked.profit),
        "unstated": list(booked.markets_without_stated_profit),
        "orders": booked.accepted_order_count,
        "orders_filled": booked.filled_order_count,
    }


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
        "booked": _booked_result_json(comparison.booked_result),
        "runs": [
            {
                "run": each.name,
                "seeds": each.run_count,
                **asdict(each.performance),
                "total_profit_usd": each.mean_total_profit_usd,
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


@dataclass(frozen=True, eq=False, slots=True)
class JournaledDecisions:
    """An account's decisions in its settled markets, read from its journal.

    held_out_sessions: the settled markets as sessions.
    action_codes: [N, T], code of the action sent at each row of each market; HOLD where no order
        was sent.
    starting_cash: the account's cash before the first decision, USD, in whole cents.
    booked_result: result that the account booked in these markets.
    """

    held_out_sessions: HeldOutSessions
    action_codes: ActionCodes = field(repr=False)
    starting_cash: Decimal
    booked_result: BookedResult

    def build_replay_policy(self, size_index: int | None = None) -> ReplayPolicy:
        """Return a policy that replays the decisions.

        size_index: index of the position size that every order gets; None: the recorded sizes.
        """
        if size_index is None:
            return ReplayPolicy(self.action_codes)
        first = (self.action_codes - 1) // len(POSITION_SIZES) * len(POSITION_SIZES) + 1
        return ReplayPolicy(np.where(self.action_codes > 0, first + size_index, 0))


class ReplayPolicy:
    """Policy that replays recorded action codes [N, T], one column per call.

    An action that is not permitted becomes HOLD. An instance can be played only once, because every
    call uses up a column.
    """

    name = "account"

    def __init__(self, codes: ActionCodes) -> None:
        self._rows = iter(codes.T)

    def choose_actions(self, observations: Observations, allowed: Mask) -> ActionCodes:
        codes = next(self._rows)
        return np.where(allowed[np.arange(len(codes)), codes], codes, 0)


def read_journaled_decisions(path: Path, action_space: LimitOrderActionSpace) -> JournaledDecisions:
    """Read the decisions in a journal of event contracts, for replay in sessions.

    Every settled market becomes a session that starts with its first recorded tick. Each session is
    played separately and starts with the account's cash before its first decision. Every order that
    was not rejected is sent again at its tick. Orders are sent and filled at recorded ticks only,
    because quotes between ticks are unknown. An order rests for `life` recorded ticks, as the
    account's orders did. Rows without a recorded tick are dropped, except in gaps so long that an
    order would expire at the venue: nothing trades in such a gap.

    path: path of the journal.
    action_space: action space with the account's order settings.
    """
    # Unlike `Path.is_file`, this also accepts a name that no file can have.
    if not os.path.isfile(path):
        raise InputError(f"journal: {path} is not a file; give the journal.sqlite of an account")
    with open_journal_for_reading(path) as database:
        if not database.query("SELECT 1 FROM sqlite_master WHERE name = ?", (ACTION_TABLE_NAME,)):
            raise InputError(
                f"journal: {path} contains no decisions on event contracts; choose another journal"
            )
        return _read_decisions(ActionRecords(database), action_space)


def _read_booked_result(records: ActionRecords, markets: Collection[str]) -> BookedResult:
    """Return the result that the account booked in these markets, from its journal."""
    paid = [each for each in records.read_settled_markets() if each.market in markets]
    stated = {each.market: each.profit for each in paid if each.profit is not None}
    orders = [
        intent
        for intent in read_intents(records.database)
        if isinstance(intent.order, EventContractOrder) and intent.order.market in markets
    ]
    return BookedResult(
        profit=sum(stated.values(), Decimal(0)),
        markets_without_stated_profit=tuple(market for market in markets if market not in stated),
        accepted_order_count=sum(intent.was_accepted for intent in orders),
        filled_order_count=sum(intent.progress.filled > 0 for intent in orders),
    )


def _find_rows_to_keep(is_recorded: Mask, life: int) -> Index:
    """Return the indices of a session's rows to keep.

    These are the recorded rows, the settlement row, and all rows of gaps longer than `life` rows.

    is_recorded: [T], true for rows with a recorded tick.
    """
    seen = np.flatnonzero(is_recorded)
    ends = np.append(seen, len(is_recorded) - 1)
    keep = is_recorded.copy()
    keep[-1] = True
    for first, last in pairwise(ends):
        if last - first > life:
            keep[first:last] = True
    return np.flatnonzero(keep)


def _read_decisions(records: ActionRecords, space: LimitOrderActionSpace) -> JournaledDecisions:
    entries = records.read_entries()
    schedules = records.read_schedules()
    kept: dict[str, Index] = {}
    sessions: list[Array] = []
    recorded: list[Mask] = []
    for market, schedule in schedules.items():
        ticks = records.read_ticks(market)
        rows = [schedule.row_index_at(each.at) for each in ticks]
        # A market first seen at its settlement has no decisions.
        if len(rows) < 2 or rows[-1] != schedule.row_count - 1:
            continue
        memory = MarketHistory(schedule, space, starting_equity=1)
        for each in ticks:
            memory.add_tick(each.at, each.tick)
        is_recorded = np.zeros(schedule.row_count, dtype=bool)
        is_recorded[rows[:-1]] = True
        # The quote of a row without a tick is unknown: nothing trades there.
        for side in ("bid_size", "ask_size"):
            memory.tape[side][~is_recorded] = 0
        life = int(max(space.life * schedule.interval, ORDER_LIFE) // schedule.interval)
        kept[market] = rows[0] + _find_rows_to_keep(is_recorded[rows[0] :], life)
        sessions.append(tick_records_to_session(memory.tape[kept[market]]))
        recorded.append(is_recorded[kept[market]])
    if not entries or not sessions:
        raise InputError(
            f"journal: {records.database.path} contains no traded market that has settled; run the"
            " comparison after a settlement"
        )
    shape = len(sessions), max(map(len, sessions))
    may_trade = np.zeros(shape, dtype=bool)
    for place, is_recorded in enumerate(recorded):
        may_trade[place, : len(is_recorded)] = is_recorded
    codes = np.zeros(shape, np.int64)
    places = {market: place for place, market in enumerate(kept)}
    for entry in entries:
        if entry.market in places and entry.sent_count:
            row = np.searchsorted(
                kept[entry.market], schedules[entry.market].row_index_at(entry.at)
            )
            codes[places[entry.market], row] = entry.action
    events = [market.rpartition("-")[0] or market for market in kept]
    return JournaledDecisions(
        HeldOutSessions(
            sessions=sessions,
            group_indices=np.unique(events, return_inverse=True)[1],
            source=f"{format_count(len(sessions), 'settled market')} of {records.database.path}",
            tradable_rows=may_trade,
        ),
        codes,
        entries[0].cash // CENT * CENT,
        _read_booked_result(records, tuple(kept)),
    )
