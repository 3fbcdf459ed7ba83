"""Every strategy, and whatever a rule of one's own answers, stays within every limit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.errors import InputError
from sizing.inputs import SizingInputs
from sizing.kelly import SolverFailed
from sizing.settings import Limits
from sizing.strategies import (
    STRATEGY_NAMES,
    WeightRuleStrategy,
    strategy_from_name,
    wrap_plugin_rule,
)
from tests.sizing.books import broken_limits, changed, random_inputs, under
from tests.support.messages import refused
from tests.support.own_module import own_module
from trainingdata.instruments import AssetClass

seeds = st.integers(0, 2**32 - 1)
finite = st.floats(allow_nan=False, allow_infinity=False)
sizes = st.one_of(st.floats(-5.0, 5.0), finite)
CODE = """
import numpy as np
from sizing import SolverFailed
def up(s): return np.where(s.mu > 0, 0.1, 0.0)
def listed(s): return [0.1, -0.1]
def nan(s): return np.array([0.1, np.nan])
def three(s): return np.zeros(3)
def nothing(s): pass
def keyed(s): return {symbol: 0.1 for symbol in s.symbols}
def singular(s):
    np.linalg.inv(np.zeros((2, 2)))
def noarg(): return 0.1
def unsolved(s): raise SolverFailed("no answer", None)
def writes(s):
    s.held_weight[:] = 0.5
    s.long_only[:] = False
    s.adjustable[:] = True
    s.problem.returns.mu[:] = 9.0
    return np.full(len(s.held_weight), -0.5)
def scaled(s, size: float = 0.1, sign: int = 1, *, name): return np.full(len(s.mu), size * sign)
class Band:
    def __init__(self, low=0.1, high=0.2):
        self.low, self.high = low, high
    def __call__(self, s): return np.full(len(s.held_weight), self.high - self.low)
class Silent:
    pass
number = 3
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of rules, in the working folder."""
    return own_module(CODE, tmp_path, monkeypatch)


def book(**changes: object) -> SizingInputs:
    """ACME and ZINC at an instant, with later periods."""
    rng = np.random.default_rng(0)
    while len((found := random_inputs(rng, 2)).problem.returns.mu) == 1:
        pass
    at = np.datetime64("2024-03-04T15:30", "ns")
    names = {"symbols": ("ACME", "ZINC"), "decision_time": at, "adjustable": np.ones(2, dtype=bool)}
    return changed(found, **{**names, **changes})


def random_limits(rng: np.random.Generator) -> Limits:
    """Limits of which some are tight."""
    caps = rng.choice([0.05, 0.3, 0.6]), rng.choice([0.2, 1.0])
    return Limits(symbol_cap=float(caps[0]), crypto_leverage=float(caps[1]))


@given(seeds, st.lists(sizes, min_size=8, max_size=8))
def test_finite_plugin_weights_never_exceed_a_limit(seed: int, answer: list[float]) -> None:
    rng = np.random.default_rng(seed)
    s = random_inputs(rng)
    limits = random_limits(rng)
    rule = wrap_plugin_rule("own.any", lambda book: answer[: len(book.held_weight)])
    found = WeightRuleStrategy("own.any", rule, 0.25, holding_interval=None).allocate(
        under(s, limits)
    )
    assert broken_limits(under(s, limits), found.target_weight) == []


def test_plugin_weights_are_clipped_to_a_million() -> None:
    rule = wrap_plugin_rule("own.any", lambda book: [1e300, -2e6])
    assert rule(book()).tolist() == [1e6, -1e6]


@pytest.mark.parametrize("name", STRATEGY_NAMES)
@given(seed=seeds)
def test_every_strategy_obeys_limits_and_is_deterministic(name: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    s = random_inputs(rng)
    limits = random_limits(rng)
    held = s.held_weight.copy()
    found = strategy_from_name(name).allocate(under(s, limits)).target_weight
    assert broken_limits(under(s, limits), found) == []
    strategy_from_name(name).allocate(under(random_inputs(rng), limits))
    np.testing.assert_array_equal(
        strategy_from_name(name).allocate(under(s, limits)).target_weight, found
    )
    np.testing.assert_array_equal(s.held_weight, held)


def test_plugin_writing_into_its_inputs_changes_no_limit(own: str) -> None:
    s = book(long_only=np.array([True, True]), adjustable=np.array([True, False]))
    before = {
        name: np.copy(getattr(s, name)) for name in ("held_weight", "long_only", "adjustable")
    }
    returns = s.problem.returns.mu.copy()
    found = strategy_from_name(f"{own}.writes").allocate(s)
    assert broken_limits(s, found.target_weight) == []
    for name, value in before.items():
        np.testing.assert_array_equal(getattr(s, name), value)
    np.testing.assert_array_equal(s.problem.returns.mu, returns)


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("nan", ("nan", "ZINC", "2024-03-04T15:30Z")),
        ("three", ("2 symbols", "2024-03-04T15:30Z", "array([0")),
        ("nothing", ("2 symbols", "None")),
        ("keyed", ("2 symbols", "{'ACME'")),
        ("singular", ("line 11", "LinAlgError: Singular matrix")),
        ("noarg", ("TypeError: noarg()",)),
        ("number", ("function", "int")),
        ("Silent", ("__call__(inputs)",)),
        ("absent", ("'absent'",)),
    ],
)
def test_plugin_with_invalid_weights_gives_one_line_error(
    own: str, name: str, facts: tuple[str, ...]
) -> None:
    with refused(InputError, "sizing._target_", f"{own}.{name}", *facts) as caught:
        strategy_from_name(f"{own}.{name}").allocate(book())
    assert "\n" not in str(caught.value)


def test_plugin_solver_failure_is_raised_to_the_trader(own: str) -> None:
    """The trader then takes no new risk or uses its fallback; the run continues."""
    with pytest.raises(SolverFailed):
        strategy_from_name(f"{own}.unsolved").allocate(book())


def test_plugin_rule_is_logged_and_has_no_fraction(own: str) -> None:
    assert strategy_from_name(f"{own}.up").log_phrase(AssetClass.STOCK, 4.0) == f"{own}.up sizing"
    assert strategy_from_name(f"{own}.up").uses_forecast
    found = strategy_from_name(f"{own}.listed").allocate(book(long_only=np.zeros(2, dtype=bool)))
    np.testing.assert_array_equal(found.unconstrained_weight, [0.1, -0.1])
    with refused(InputError, "sizing.fraction"):
        strategy_from_name(f"{own}.up", fraction=0.3)
    with refused(InputError, "sizing._target_=module.function"):
        strategy_from_name("martingale")


def test_arguments_reach_a_strategys_function_and_class(own: str) -> None:
    function = strategy_from_name(f"{own}.scaled", arguments={"size": 0.3, "name": "x"})
    np.testing.assert_array_equal(function.allocate(book()).unconstrained_weight, [0.3, 0.3])
    instance = strategy_from_name(f"{own}.Band", arguments={"high": 0.4})
    np.testing.assert_allclose(instance.allocate(book()).unconstrained_weight, [0.3, 0.3])


@pytest.mark.parametrize(
    ("name", "arguments", "line"),
    [
        ("scaled", {"siz": 0.1, "name": "x"}, r"sizing.arguments: 'siz' .*size"),
        ("scaled", {"size": "big", "name": "x"}, r"sizing.arguments.size: 'big' is not a number"),
        (
            "scaled",
            {"sign": True, "name": "x"},
            r"sizing.arguments.sign: True is not a whole number",
        ),
        ("scaled", {}, r"sizing.arguments.name: not set, .*scaled"),
        ("Band", {"lo": 1.0}, r"sizing.arguments: 'lo' .*low"),
        ("up", {"a": 1}, r"sizing.arguments.a: .*up accepts no arguments"),
    ],
)
def test_invalid_strategy_argument_is_named_in_the_error(
    own: str, name: str, arguments: dict[str, object], line: str
) -> None:
    with pytest.raises(InputError, match=line):
        strategy_from_name(f"{own}.{name}", arguments=arguments)


def test_builtin_strategies_refuse_arguments() -> None:
    with refused(InputError, "sizing.arguments", "kelly_50", "sizing._target_"):
        strategy_from_name("kelly_50", arguments={"fast": 20})
