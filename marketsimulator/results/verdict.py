"""Verdict of a backtest's report: the run's return compared with its benchmarks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from forecasting.forecast import NO_FORECAST, has_look_ahead
from foundation.formatting import format_count, format_enumeration, format_percent

RANDOM_WALK = "random_walk"  # the comparison that shows what the forecast adds
BUY_AND_HOLD = "buy_and_hold"  # the comparison that shows what active decisions add
OUTPERFORMANCE_CLAIMS = {  # claim by relation of the run to a benchmark
    "ahead": "significantly ahead of {}",
    "behind": "significantly behind {}",
    "not_significant": "no significant difference from {}",
    "same": "identical to {}",
    "too little": "too few days to compare with {}",
}
BENCHMARK_LABELS = {RANDOM_WALK: "no-forecast baseline", BUY_AND_HOLD: "buy and hold"}


@dataclass(frozen=True, slots=True)
class Verdict:
    """The overall verdict of a report.

    level: `good` if the run is significantly ahead of all runs with which it is compared; `bad` if
        it is significantly behind one, lost all equity, or is not valid evidence (for example
        because of look-ahead); else `open`.
    claim: conclusion in one sentence.
    evidence: sentences with figures that support the claim.
    """

    level: Literal["good", "bad", "open"]
    claim: str
    evidence: str


def benchmark_label(summary: dict[str, Any], name: str) -> str:
    """Return the label of a benchmark; a run without positions is marked so.

    name: name of the benchmark in the summary.
    """
    label = BENCHMARK_LABELS.get(name, name)
    has_positions = summary["comparisons"][name]["time_invested"] != 0
    return label if has_positions else f"{label} (no positions)"


def backtest_verdict(summary: dict[str, Any]) -> Verdict:
    """Return the verdict on a backtest from the content of its `summary.json`."""
    names: dict[str, list[str]] = {}
    for name, outperformance in summary["outperformances"].items():
        if outperformance is not None:
            names.setdefault(_relation(outperformance), []).append(name)
    claims = [
        text.format(
            format_enumeration([_sentence_label(summary, name) for name in names[relation]])
        )
        for relation, text in OUTPERFORMANCE_CLAIMS.items()
        if relation in names
    ]
    earned = format_percent(summary["total_return"], sign=True)
    earned += f" after costs in {format_count(summary['days'], 'day')}"
    claim = f"{earned}, {'; '.join(claims) or 'nothing to compare with'}."
    level: Literal["good", "bad", "open"] = "good" if list(names) == ["ahead"] else "open"
    reason = no_evidence_reason(summary["forecaster"], summary["data"])
    lost = summary.get("wiped_out_on")
    if lost:
        claim = f"all equity was lost on {lost}."
    if reason or lost or "behind" in names:
        level = "bad"
    evidence = summary.get("evidence")
    sources = [_position_sources(summary), *([evidence["sentence"]] if evidence else [])]
    return Verdict(level, qualify_claim(reason, claim), " ".join(filter(None, sources)))


def no_evidence_reason(forecaster: str, data_source: str) -> str:
    """Return why a run is not valid evidence, or an empty string if it is.

    forecaster: name of the forecaster.
    data_source: description of the source of the bars.
    """
    if has_look_ahead(forecaster):
        return "the forecaster reads the future"
    if data_source.startswith("synthetic"):
        return "the market is synthetic"
    return ""


def qualify_claim(reason: str, claim: str) -> str:
    """Prefix a claim with the reason why its run is not valid evidence.

    reason: reason for the prefix; empty for a run that is valid evidence, whose claim has none.
    """
    return f"No result: {reason}; {claim}" if reason else f"{claim[0].upper()}{claim[1:]}"


def _relation(outperformance: dict[str, Any]) -> str:
    """Return the key of `OUTPERFORMANCE_CLAIMS` for how the run compares with a benchmark.

    outperformance: lead of the run over the benchmark, with its significance.
    """
    if outperformance["is_identical"]:
        return "same"
    if outperformance["interval"] is None:
        return "too little"
    return {1: "ahead", 0: "not_significant", -1: "behind"}[outperformance["significant_sign"]]


def _sentence_label(summary: dict[str, Any], name: str) -> str:
    takes_article = name not in (BUY_AND_HOLD, summary["benchmark"])
    return f"{'the ' if takes_article else ''}{benchmark_label(summary, name)}"


def _position_sources(summary: dict[str, Any]) -> str:
    """Describe what shares of the mean position the risk premium and the forecast explain."""
    share = summary["premium_share"]
    if summary["time_invested"] == 0:
        return "No position was held."
    if summary["forecaster"] == NO_FORECAST:
        return ""
    if share is None:
        return "Neither a premium nor a forecast explains the positions."
    return (
        f"{format_percent(share, 0)} of the mean position comes from the assumed risk premium,"
        f" {format_percent(1 - share, 0)} from the forecast."
    )
