"""How many small faults in the money and decision code its tests notice: `make mutants`.

A mutant is a file with one change: a comparison, an operator, a number, a sign, a branch, a
statement or an argument left out. It is drawn at random, lives in memory and is caught by the first
test of its file that fails; an endless loop ends at a limit of processor time, and is caught as
well. Compiled functions run as plain Python where they are changed, or call what is. What no test
could notice is listed in equivalent.toml, each with its reason, and counts as no mutant.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.mutants.changes import Mutant, mutants
from tests.mutants.children import Farm, Job, Verdict, load_what_is_heavy

ROOT = Path(__file__).resolve().parent.parent.parent
IN_ALL = 0.92
IN_A_FILE = 0.85  # shares that must be caught
PATIENCE = (
    4.0,
    10.0,
)  # a mutant may take so many times the processor time of its unchanged file, and seconds more

MARKET = "tests/marketsimulator/test_"
TRADE = "tests/execution/test_"
WIRE = "tests/e2e/test_"
SIZE = "tests/sizing/test_"
FORECAST = "tests/forecasting/test_"
DATA = "tests/trainingdata/test_"
TESTS: Mapping[str, tuple[str, ...]] = {  # what belongs to a file, what fails soonest in front
    "marketsimulator/account/settlement.py": (
        f"{MARKET}settlement.py",
        f"{MARKET}moves.py",
        f"{MARKET}impact.py",
        f"{MARKET}margin_calls.py",
        f"{MARKET}invariants.py",
        f"{MARKET}waiting_orders.py",
    ),
    "marketsimulator/account/impact.py": (f"{MARKET}impact.py", f"{MARKET}settlement.py"),
    "marketsimulator/account/margin.py": (
        f"{MARKET}settlement.py",
        f"{MARKET}margin_calls.py",
        f"{MARKET}waiting_orders.py",
        f"{MARKET}invariants.py",
    ),
    "marketsimulator/account/calendar_events.py": (
        f"{MARKET}settlement.py",
        f"{MARKET}invariants.py",
        f"{MARKET}margin_calls.py",
    ),
    "marketsimulator/account/matching.py": (f"{MARKET}matching.py", f"{MARKET}waiting_orders.py"),
    "marketsimulator/account/working_orders.py": (
        f"{MARKET}waiting_orders.py",
        f"{MARKET}matching.py",
    ),
    "marketsimulator/account/rebalancing.py": (
        f"{MARKET}moves.py",
        f"{MARKET}weights.py",
        f"{MARKET}followed_weights.py",
        f"{MARKET}parity.py",
    ),
    "marketsimulator/runs/weights.py": (f"{MARKET}weights.py", f"{MARKET}followed_weights.py"),
    "marketsimulator/runs/variants.py": (f"{MARKET}variants.py", f"{MARKET}parity.py"),
    "marketsimulator/account/timeline.py": (
        f"{MARKET}matching.py",
        f"{MARKET}impact.py",
        f"{MARKET}margin_calls.py",
        f"{MARKET}invariants.py",
    ),
    "sizing/kelly.py": (
        f"{SIZE}kelly.py",
        f"{SIZE}factor.py",
        f"{SIZE}strategies.py",
        f"{SIZE}history.py",
    ),
    "sizing/situation.py": (f"{SIZE}allocation.py", f"{SIZE}quantity.py", f"{TRADE}trader.py"),
    "sizing/allocation.py": (
        f"{SIZE}what_binds.py",
        f"{SIZE}allocation.py",
        f"{SIZE}strategies.py",
        f"{SIZE}quantity.py",
        f"{TRADE}trader.py",
    ),
    "sizing/binding.py": (
        f"{SIZE}what_binds.py",
        f"{SIZE}allocation.py",
        f"{SIZE}strategies.py",
        f"{SIZE}quantity.py",
    ),
    "sizing/limits.py": (
        f"{SIZE}limits.py",
        f"{TRADE}overnight.py",
        f"{SIZE}strategies.py",
        f"{SIZE}quantity.py",
    ),
    "sizing/strategies.py": (
        f"{SIZE}strategy_rules.py",
        f"{SIZE}strategies.py",
        f"{SIZE}quantity.py",
        f"{TRADE}trader.py",
    ),
    "sizing/own_rules.py": (f"{SIZE}own_rules.py",),
    "sizing/quantity.py": (
        f"{SIZE}quantity.py",
        f"{SIZE}quantity_of_one.py",
        f"{MARKET}moves.py",
        f"{TRADE}orders.py",
        f"{TRADE}order_shapes.py",
        f"{TRADE}trader.py",
    ),
    "sizing/solver/multi_period.py": (
        f"{SIZE}plan.py",
        f"{SIZE}kelly.py",
        f"{SIZE}history.py",
        f"{SIZE}allocation.py",
    ),
    "execution/live/guards.py": (f"{TRADE}guards.py",),
    "execution/live/exposure.py": (f"{TRADE}guards.py",),
    "execution/live/order_terms.py": (f"{TRADE}guards.py",),
    "execution/live/halts.py": (f"{TRADE}halts.py", f"{TRADE}guards.py"),
    "execution/live/losses.py": (f"{TRADE}losses.py",),
    "execution/live/closing.py": (f"{TRADE}closing.py",),
    "execution/live/holdings.py": (f"{TRADE}holdings.py",),
    "execution/live/differences.py": (f"{TRADE}holdings.py",),
    "execution/live/loop.py": (f"{TRADE}loop.py",),
    "sizing/premium.py": (f"{SIZE}premium.py", f"{TRADE}planned.py"),
    "sizing/solver/segments.py": (
        f"{SIZE}program_optimum.py",
        f"{SIZE}program.py",
        f"{SIZE}plan.py",
    ),
    "sizing/solver/active_set.py": (
        f"{SIZE}program_optimum.py",
        f"{SIZE}program.py",
        f"{SIZE}kelly.py",
    ),
    "sizing/solver/step.py": (
        f"{SIZE}program_optimum.py",
        f"{SIZE}program.py",
        f"{SIZE}kelly.py",
    ),
    "sizing/solver/validation.py": (f"{SIZE}kelly.py", f"{SIZE}factor.py", f"{SIZE}history.py"),
    "sizing/solver/cholesky.py": (f"{SIZE}factor.py", f"{SIZE}program.py", f"{SIZE}kelly.py"),
    "execution/orders.py": (
        f"{TRADE}orders.py",
        f"{TRADE}order_shapes.py",
        f"{TRADE}trader_accounts.py",
    ),
    "execution/trader.py": (
        f"{SIZE}strategy_rules.py",
        f"{TRADE}trader.py",
        f"{TRADE}trader_accounts.py",
        f"{TRADE}overnight.py",
        f"{TRADE}open_orders.py",
        f"{MARKET}limits_over_time.py",
    ),
    "execution/situation.py": (
        f"{SIZE}strategy_rules.py",
        f"{TRADE}trader.py",
        f"{TRADE}trader_accounts.py",
        f"{TRADE}open_orders.py",
    ),
    "execution/choices.py": (
        f"{TRADE}trader.py",
        f"{TRADE}trader_accounts.py",
        f"{TRADE}planned.py",
    ),
    "execution/open_orders.py": (f"{TRADE}open_orders.py", f"{TRADE}trader_accounts.py"),
    "execution/rebalancing.py": (f"{TRADE}orders.py", f"{TRADE}order_shapes.py"),
    "execution/beliefs.py": (
        f"{TRADE}belief_intervals.py",
        f"{TRADE}planned.py",
        f"{TRADE}trader.py",
    ),
    "execution/outlook.py": (
        f"{TRADE}belief_intervals.py",
        f"{TRADE}planned.py",
        f"{TRADE}trader.py",
        f"{TRADE}overnight.py",
    ),
    "execution/broker.py": (f"{TRADE}broker.py", f"{TRADE}open_orders.py"),
    "execution/venue_rules.py": (
        f"{TRADE}refusals.py",
        f"{TRADE}open_orders.py",
        f"{TRADE}broker.py",
    ),
    "execution/conformance.py": (f"{TRADE}conformance.py",),
    "execution/posting.py": (f"{TRADE}order_desk.py",),
    "execution/alpaca/order_desk.py": (f"{TRADE}order_desk.py",),
    "execution/alpaca/broker.py": (f"{TRADE}order_desk.py",),
    "execution/alpaca/account.py": (f"{TRADE}account_words.py", f"{TRADE}vendor_fields.py"),
    "execution/alpaca/holdings.py": (f"{TRADE}account_words.py", f"{TRADE}vendor_fields.py"),
    "execution/alpaca/fields.py": (f"{TRADE}account_words.py", f"{TRADE}vendor_fields.py"),
    "execution/alpaca/connection.py": (f"{TRADE}order_desk.py",),
    "execution/alpaca/order_answers.py": (f"{TRADE}order_desk.py",),
    "execution/alpaca/order_reader.py": (f"{TRADE}order_desk.py",),
    "execution/spreads/seller.py": (f"{WIRE}spread_seller.py",),
    "execution/spreads/books.py": (f"{WIRE}spread_seller.py",),
    "execution/spreads/holdings.py": (f"{WIRE}spread_seller.py",),
    "execution/account_lock.py": (f"{TRADE}account_lock.py",),
    "execution/intents.py": (
        f"{TRADE}account_lock.py",
        f"{TRADE}order_desk.py",
        f"{TRADE}intents.py",
    ),
    "trainingdata/feed/pages.py": (f"{DATA}pages.py",),
    "trainingdata/feed/option_data.py": (f"{DATA}option_quotes.py", f"{DATA}pages.py"),
    "forecasting/moments.py": (f"{FORECAST}moments.py", f"{TRADE}trader.py"),
    "forecasting/calibration/forecaster.py": (f"{FORECAST}calibration.py",),
    "forecasting/calibration/history.py": (f"{FORECAST}calibration.py",),
    "forecasting/calibration/lesson.py": (f"{FORECAST}calibration.py",),
    "forecasting/cache.py": (f"{FORECAST}cache.py",),
    "forecasting/store.py": (f"{FORECAST}cache.py",),
    "forecasting/own_forecaster.py": (f"{FORECAST}own_forecaster.py",),
    "forecasting/from_file.py": (f"{FORECAST}from_file.py",),
    "trainingdata/sessions.py": (
        f"{DATA}session_calendar.py",
        f"{DATA}sessions.py",
        f"{TRADE}trader.py",
    ),
    "trainingdata/instants.py": (f"{DATA}session_calendar.py", f"{DATA}sessions.py"),
    "trainingdata/bars.py": (f"{DATA}bars.py", f"{DATA}bars_checks.py"),
    "trainingdata/bar_files.py": (f"{DATA}bars.py", f"{DATA}heads.py"),
    "trainingdata/bar_rows.py": (f"{DATA}heads.py",),
    "trainingdata/slow_variance.py": (f"{DATA}slow_variance.py", f"{TRADE}planned.py"),
    "trainingdata/correlation.py": (
        f"{DATA}correlation.py",
        f"{DATA}correlation_of_still_symbols.py",
    ),
}
# No mutant lives in the processes that some tests start; others take minutes uncompiled.
LEFT_OUT = (
    f"{MARKET}settlement.py::test_after_a_million_random_events_the_cash_is_exact_to_the_cent",
    f"{MARKET}variants.py::test_the_command_writes_a_table_and_refuses_in_one_line",
    f"{MARKET}backtest.py::test_a_run_is_judged_by_how_many_were_tried_on_its_data",
    f"{TRADE}quantity.py::test_the_command_answers_in_words_and_in_json_and_logs",
    f"{TRADE}quantity.py::test_wrong_words_are_one_line_and_exit_code_2",
    f"{FORECAST}cache.py::test_killed_anywhere_and_run_again_the_bytes_are_the_same",
    f"{FORECAST}cache.py::test_two_processes_at_once_do_no_harm",
    f"{FORECAST}cache.py::test_what_is_kept_is_read_without_torch",
)

Equivalents = Mapping[tuple[str, str, str, str], str]


def equivalents(path: Path) -> Equivalents:
    """Why a change makes no difference, by file, function, and the statement before and after."""
    entries = tomllib.loads(path.read_text()).get("mutant", [])
    return {(e["file"], e["function"], e["before"], e["after"]): e["why"] for e in entries}


def measure(
    farm: Farm,
    tests: Mapping[str, Sequence[str]],
    known: Equivalents,
    number: int,
    seed: int,
    patience: tuple[float, float] = PATIENCE,
) -> tuple[list[tuple[Mutant, Verdict]], list[Mutant]]:
    """Every mutant with its verdict, and those that are known to make no difference.

    Raises
    ------
    SystemExit
        where a file's tests fail, or are none, while nothing is changed.
    """
    chosen = {
        file: tuple(names) + tuple(f"--deselect={name}" for name in LEFT_OUT)
        for file, names in tests.items()
    }
    calm: dict[str, float] = {}
    whole = [Job(file, None, names, 3_600.0) for file, names in chosen.items()]
    for k, verdict in farm.verdicts(whole):
        if not verdict.passed:
            raise SystemExit(
                f"{whole[k].file}: its tests fail though nothing is changed\n{verdict.words}"
            )
        calm[whole[k].file] = verdict.seconds
        say(f"{whole[k].file}: unchanged, {verdict.seconds:.0f} s")
    drawn = [mutant for file in tests for mutant in mutants(farm.root, file, number, seed)]
    same = [mutant for mutant in drawn if mutant.key in known]
    drawn = [mutant for mutant in drawn if mutant.key not in known]
    jobs = [
        Job(m.file, m.code, chosen[m.file], patience[1] + patience[0] * calm[m.file]) for m in drawn
    ]
    found = {}
    for k, verdict in farm.verdicts(jobs):
        if verdict.passed is None:
            raise SystemExit(f"{told(drawn[k])}: no test ran\n{verdict.words}")
        found[k] = verdict
        say(
            f"{len(found)}/{len(jobs)} {'SURVIVED' if verdict.passed else 'caught'}"
            f" {verdict.seconds:.0f} s {told(drawn[k])}"
        )
    return [(drawn[k], found[k]) for k in sorted(found)], same


def told(mutant: Mutant) -> str:
    """A mutant in one line."""
    return f"{mutant.file}:{mutant.line} {mutant.function}: {mutant.before}  →  {mutant.after}"


def say(line: str) -> None:
    """Where it stands; the report itself goes elsewhere."""
    print(line, file=sys.stderr, flush=True)


def report(found: Sequence[tuple[Mutant, Verdict]], same: Sequence[Mutant]) -> tuple[str, bool]:
    """The survivors, the share of each file and of all; and whether these are enough."""
    counts: dict[str, list[int]] = {}
    for mutant, verdict in found:
        for name in (mutant.file, "all"):
            row = counts.setdefault(name, [0, 0])
            row[0] += 1
            row[1] += not verdict.passed
    lines = [told(mutant) for mutant, verdict in found if verdict.passed]
    lines = [
        f"{len(lines)} survivors",
        *lines,
        "",
        f"{'file':36}{'mutants':>8}{'caught':>8}{'share':>8}",
    ]
    enough = True
    counts["all"] = counts.pop("all", [0, 0])
    for name, (mutants_, caught) in counts.items():
        share = caught / max(mutants_, 1)
        least = IN_ALL if name == "all" else IN_A_FILE
        enough &= share >= least
        verdict = "" if share >= least else f"  below {least:.0%}"
        lines.append(f"{name:36}{mutants_:8}{caught:8}{share:8.1%}{verdict}")
    lines.append(f"{len(same)} more make no difference, for the reasons in equivalent.toml")
    return "\n".join(lines), enough


def main() -> None:
    """Measures, prints, and ends with 1 where too few were caught."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="*", metavar="file", help="only these; every one by default")
    parser.add_argument("--number", type=int, default=9, help="mutants a file (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="which are drawn (%(default)s)")
    parser.add_argument(
        "--workers", type=int, default=2, help="how many live at a time (%(default)s)"
    )
    asked = parser.parse_args()
    if unknown := [file for file in asked.files if file not in TESTS]:
        parser.error(f"{unknown[0]} is none of {', '.join(TESTS)}")
    tests = {file: names for file, names in TESTS.items() if not asked.files or file in asked.files}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    load_what_is_heavy()
    farm = Farm(ROOT, frozenset(file.split("/")[0] for file in TESTS), asked.workers)
    known = equivalents(Path(__file__).with_name("equivalent.toml"))
    text, enough = report(*measure(farm, tests, known, asked.number, asked.seed))
    print(text)
    sys.exit(0 if enough else 1)


if __name__ == "__main__":
    main()
