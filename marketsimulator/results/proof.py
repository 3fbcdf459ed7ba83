"""Proof of a forecast: what its sealed record has earned, and what the rest shows in hindsight.

One question is judged at every instant (`forecasting.evidence`): does capital sized by the forecast
grow faster after costs than the same capital without it? Only sealed forecasts earn. Forecasts in
hindsight are judged separately.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from forecasting.evidence import (
    MAX_SCALED_LOSS,
    EvidenceSeries,
    earned_fraction,
    error_share,
    growth_evidence,
)
from forecasting.file_forecaster import RowMatches
from forecasting.forecast import Progress
from forecasting.sealing import SealedRecord, SealStatus
from foundation.arrays import Array, Instants
from foundation.errors import InputError
from foundation.formatting import format_earned
from foundation.settings import setting, settings_class
from marketsimulator.results.trial_identity import config_hash, data_hash
from marketsimulator.results.trials import Trial
from marketsimulator.settings import BacktestSettings
from trainingdata.instants import format_utc, new_york_date
from trainingdata.market import Market


@settings_class()
class ProofSettings(BacktestSettings):
    """Settings of a proof: those of a backtest, and the forecasts that are judged."""

    forecasts: tuple[str, ...] = setting(
        (), "files or folders of forecasts to judge; the arguments of the command"
    )
    seal: str | None = setting(
        None, "folder whose new files are sealed; null: forecasts are judged instead"
    )
    witness: str | None = setting(
        None, "file outside the folder that keeps its seals; null: in the user's state directory"
    )
    head: str | None = setting(
        None, "published digest of a seal that the record must contain; null: no check"
    )
    output: str = setting("outputs/proof", "folder for the results")

    def __post_init__(self) -> None:
        BacktestSettings.__post_init__(self)
        if self.start is not None or self.days is not None:
            key = "start" if self.days is None else "days"
            raise InputError(
                f"{key}: a proof starts at the first forecast, because a chosen start could hide"
                " losses; remove this setting"
            )
        if self.data.adjustment == "raw":
            raise InputError(
                "data.adjustment: raw prices change their unit at a split, forecasts do not; set"
                " data.adjustment=split"
            )
        if len(self.forecasts) > 1 and (self.witness or self.head):
            key = "witness" if self.witness else "head"
            raise InputError(f"{key}: belongs to one folder, but several are judged; name one")


@dataclass(frozen=True, eq=False, slots=True)
class RecordEvidence:
    """Evidence for the forecasts of one status, sealed or in hindsight.

    instants: [T] instants from the first forecast on.
    forecast_count: number of forecasts.
    growth: [T] evidence that capital earns more with the forecast, by instant.
    added_return: [T] return with the forecast less that without it, summed from the first instant.
    earned: [T] fraction of the forecast's positions that it has earned.
    breaches: instants at which more was lost than the bets allow for.
    """

    instants: Instants
    forecast_count: int
    growth: EvidenceSeries
    added_return: Array
    earned: Array
    breaches: Instants

    @property
    def since(self) -> str:
        """New York date of the first forecast."""
        return str(new_york_date(self.instants[:1])[0])

    def figures(self) -> dict[str, Any]:
        """Return the evidence at the last instant."""
        return {
            "since": self.since,
            "until": format_utc(self.instants[-1]),
            "forecasts": self.forecast_count,
            "added_return": float(self.added_return[-1]),
            "earned": float(self.earned[-1]),
            "breaches": list(map(format_utc, self.breaches)),
            "growth": {name: float(values[-1]) for name, values in self.growth._asdict().items()},
        }


@dataclass(frozen=True, eq=False, slots=True)
class Proof:
    """What a forecaster has earned.

    name: name of the forecaster.
    attempt: number of this forecaster among those tried on the same bars.
    record: the forecasts and their seals.
    evidence: evidence by status, for each status with forecasts.
    matches: matches of its rows with the bars.
    counts_attempts: false without a ledger of trials; then only sealed records count.
    """

    name: str
    attempt: int
    record: SealedRecord
    evidence: dict[SealStatus, RecordEvidence]
    matches: RowMatches
    counts_attempts: bool

    @property
    def earned(self) -> float:
        """Fraction of its positions that the forecast has earned by now."""
        return float(self.evidence["sealed"].earned[-1]) if "sealed" in self.evidence else 0.0

    @property
    def longest_delay_seconds(self) -> float:
        """Longest time from issue to sealing among the forecasts sealed in time, s; else 0."""
        delays = [known - issued for issued, known in self.record.known_at.items()]
        return max((float(delay / np.timedelta64(1, "s")) for delay in delays), default=0.0)

    @property
    def sentence(self) -> str:
        """What the forecast has earned."""
        if "sealed" not in self.evidence:
            return "No forecast was sealed in time, and hindsight earns nothing."
        if absent := sorted(self.matches.absent_symbols):
            names = f"{', '.join(absent[:5])}{' …' if len(absent) > 5 else ''}"
            return f"Nothing is earned, because forecasts of {names} are not judged; judge all."
        sealed = self.evidence["sealed"]
        e_value = float(sealed.growth.e_value[-1])
        share = error_share(self.attempt)
        earned = format_earned(sealed.since, self.earned, e_value, share, len(sealed.breaches))
        number, total, missing = self.record.count
        return f"{earned} It is record {number} of {total} sealed here, {missing} of them missing."

    def summary(self) -> dict[str, Any]:
        """Return the forecaster's entry in `proof.json`."""
        return {
            "name": self.name,
            "sentence": self.sentence,
            "earned": self.earned,
            "attempt": self.attempt,
            "needed_e_value": 1 / error_share(self.attempt),
            "head": self.record.head,
            "gaps": len(self.record.gap_instants),
            "longest_delay_seconds": self.longest_delay_seconds,
            "unmatched_rows": self.matches.unmatched,
            "absent_symbols": sorted(self.matches.absent_symbols),
            "records": self.record.count._asdict(),
            **{status: evidence.figures() for status, evidence in self.evidence.items()},
        }


def build_proof_trial(record: SealedRecord, market: Market) -> Trial:
    """Return the entry of a record's forecaster in the trial ledger.

    Its name contains the first seal: another chain of seals is another forecaster.
    """
    bars = market.bars
    first = f" ({record.batches[0].seal.digest[:8]})" if record.batches else ""
    name = f"forecasts of {record.path.name}{first}"
    return Trial(
        config_hash=config_hash({"proof": name}),
        data_hash=data_hash(market),
        source=bars.source,
        symbols=bars.symbols,
        first=format_utc(bars.times[0]),
        last=format_utc(bars.last_instant),
        days=0,
        daily_sharpe=None,
        total_return=0.0,
        forecaster=name,
    )


def judge_record(
    settings: ProofSettings,
    market: Market,
    record: SealedRecord,
    matches: RowMatches,
    status: SealStatus,
    share: float,
    progress: Progress,
) -> RecordEvidence:
    """Judge the forecasts of a record that have one status.

    Nothing is earned if symbols of the record are not judged, because they may be those that lost.

    matches: matches of the record's rows with the market's bars.
    share: error probability, from `error_share`.
    """
    bars = market.bars
    table = record.forecasts(status, bars, bars.times[0], progress)
    gaps = record.gap_instants if status == "sealed" else record.gap_instants[:0]
    gap_rows = np.unique(np.searchsorted(bars.times, gaps[gaps <= bars.last_instant]))
    issued_rows = np.searchsorted(bars.times, table.windows.issued_at)
    run = replace(market, start_row=int(np.concatenate([issued_rows, gap_rows]).min()))
    trader = settings.build_trader(table)
    known_at = record.known_at if status == "sealed" else {}
    judgement = trader.judge_forecast(run, trader.build_beliefs(run, progress), known_at)
    judged_rows = np.searchsorted(bars.times, judgement.instants)
    rows = np.union1d(judged_rows, gap_rows)
    difference, largest_loss = np.full((2, len(rows)), np.nan)
    difference[np.searchsorted(rows, judged_rows)] = judgement.difference
    largest_loss[np.searchsorted(rows, judged_rows)] = judgement.largest_loss
    # Otherwise a batch could be deleted once its outcome is known.
    is_gap = np.isin(rows, gap_rows)
    difference[is_gap], largest_loss[is_gap] = -MAX_SCALED_LOSS, MAX_SCALED_LOSS
    growth = growth_evidence(difference, share, largest_loss)
    earned = np.zeros(len(rows))
    if status == "sealed" and not matches.absent_symbols:
        earned = earned_fraction(growth.lower_bound, growth.mean)
    return RecordEvidence(
        *(bars.times[rows], len(table.windows), growth, np.nancumsum(difference), earned),
        breaches=judgement.breaches,
    )
