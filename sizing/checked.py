"""A strategy of a user's own, whose every answer is looked at before orders are made of it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from numbers import Real
from typing import Any, TypeVar, get_args

import numpy as np

from foundation.arrays import Array, first_row
from foundation.errors import InputError
from foundation.plugin import own_code, place
from sizing.allocation import Allocation, Strategy
from sizing.kelly import SolverFailed
from sizing.limits import Limits
from sizing.situation import Situation
from sizing.solver.multi_period import LaterBlocks
from trainingdata.instruments import Kind
from trainingdata.sessions import Holding

KEY = "sizing.strategy"
TOLERANCE = 1e-6  # in weight
MOST = 1e6  # of equity: what lies beyond is no weight
HOLDINGS = (None, *get_args(Holding))
CALLS = {"allocate": ("situation", "limits"), "phrase": ("kind", "stock_ceiling")}  # of a strategy

Answer = TypeVar("Answer")


class ChangesSituation(InputError):
    """Own code writes into the situation that it is given."""


@dataclass(frozen=True, slots=True)
class CheckedStrategy:
    """Sizes as `inner` does, or says what is wrong with its answer.

    inner: the strategy.
    origin: what named it, for the message.
    """

    inner: Strategy
    origin: str

    def __post_init__(self) -> None:
        with own_code(KEY, self.origin):
            for fault in interface_faults(self.inner):
                raise InputError(f"{KEY}: {self.origin}: {fault}")

    @property
    def uses_forecast(self) -> bool:
        """Whether the forecast counts for a symbol's expected return."""
        return bool(self.inner.uses_forecast)

    @property
    def uses_premium(self) -> bool:
        """Whether the premium of its class counts for a symbol's expected return."""
        return bool(self.inner.uses_premium)

    @property
    def holding(self) -> Holding | None:
        """The interval it looks at; none for the configured one."""
        return self.inner.holding

    def allocate(self, situation: Situation, limits: Limits) -> Allocation:
        """The inner strategy's answer to a copy of the situation.

        Raises
        ------
        InputError
            naming the strategy and what its answer breaks.
        SolverFailed
            where the inner strategy's program has no answer.
        """
        answer = own_answer(lambda s: self.inner.allocate(s, limits), situation, self.origin)
        for fault in allocation_faults(situation, limits, answer):
            raise InputError(f"{KEY}: {self.origin}: {fault}")
        return answer

    def phrase(self, kind: Kind, stock_ceiling: float) -> str:
        """What operators grep for."""
        with own_code(KEY, self.origin):
            return self.inner.phrase(kind, stock_ceiling)


def own_answer(ask: Callable[[Situation], Answer], situation: Situation, origin: str) -> Answer:
    """What own code answers to a copy of the situation, into which it writes nothing.

    Raises
    ------
    ChangesSituation, InputError
        with file and line, for code that writes into what it is given, or that fails.
    SolverFailed
        as the code has raised it.
    """
    handed = copy_of(situation)
    failure: SolverFailed | None = None
    with own_code(KEY, origin):
        try:
            answer = ask(handed)
        except SolverFailed as error:
            failure = error
    if changed := changed_arrays(situation, handed):
        # Compiled sizing would be compiled anew for arrays that are read-only. Only who has written
        # into one is asked a second time, with such arrays, for the line that does it.
        where = ""
        try:
            with own_code(KEY, origin):
                ask(copy_of(situation, writeable=False))
        except InputError as error:
            where = f" in {place(error.__cause__ or error, origin)}"
        raise ChangesSituation(
            f"{KEY}: {origin} changes the situation it is given: it writes into"
            f" {changed[0]}{where}; write into a copy of it"
        )
    if failure is not None:
        raise failure
    return answer


def copy_of(situation: Situation, *, writeable: bool = True) -> Situation:
    """The same situation in arrays of its own, so that writing into them changes nothing else."""
    arrays: dict[str, Any] = {}
    for name, value in _arrays(situation).items():
        arrays[name] = value.copy()
        arrays[name].setflags(write=writeable)
    later = None
    if situation.later is not None:
        later = LaterBlocks(*(arrays.pop(f"later.{name}") for name in LaterBlocks._fields))
    return replace(situation, **arrays, later=later)


def changed_arrays(before: Situation, after: Situation) -> list[str]:
    """Names of the arrays that are not the same in both."""
    now = _arrays(after)
    return [
        name
        for name, value in _arrays(before).items()
        if not np.array_equal(value, now[name], equal_nan=True)
    ]


def _arrays(situation: Situation) -> dict[str, Array]:
    """Every array of a situation by its name."""
    values = {field.name: getattr(situation, field.name) for field in fields(situation)}
    if situation.later is not None:
        values |= {f"later.{part}": value for part, value in situation.later._asdict().items()}
    return {name: value for name, value in values.items() if isinstance(value, np.ndarray)}


def checked_rule(rule: Callable[[Situation], Any], origin: str) -> Callable[[Situation], Array]:
    """A rule of weights that is handed a copy and whose answer is one number a symbol.

    Raises
    ------
    InputError
        for a rule that does not take a situation alone.
    """
    if fault := call_fault(rule, origin.rpartition(":")[2], "situation"):
        raise InputError(f"{KEY}: {origin}: {fault}")

    def weights(situation: Situation) -> Array:
        answer = own_answer(rule, situation, origin)
        if fault := weights_fault(answer, situation):
            count = len(situation.held)
            names = [name for name in situation.symbols if name]
            named = f" ({', '.join(names[:5])}{' …' * (len(names) > 5)})" if names else ""
            raise InputError(
                f"{KEY}: {origin} must return {count} finite weights, one a symbol{named}; it"
                f" returned {fault}"
            )
        return np.asarray(answer, dtype=np.float64)

    return weights


def weights_fault(answer: object, situation: Situation) -> str:
    """What keeps an answer from being a weight for each symbol; empty where nothing does."""
    keyed = isinstance(answer, Mapping) or hasattr(answer, "to_numpy")
    if keyed and (fault := _keyed_fault(answer, situation)):
        return fault
    try:
        wanted = np.asarray(answer)
        if wanted.dtype.kind == "c":
            return "complex numbers"
        if wanted.dtype.kind not in "biufO" or not wanted.shape:
            return repr(answer)
        wanted = wanted.astype(np.float64)
    except (TypeError, ValueError):
        return repr(answer)
    if wanted.shape != (len(situation.held),):
        return f"an array of shape {wanted.shape}"
    for bad, seen in ((np.isnan(wanted), "NaN"), (np.abs(wanted) > MOST, None)):
        if bad.any():
            row = first_row(bad)
            return f"{seen or format(wanted[row], 'g')} for {situation.place(row)}"
    return ""


def _keyed_fault(answer: Any, situation: Situation) -> str:
    """What is said of an answer that names symbols itself; a Series may, in their order."""
    kind = f"a {type(answer).__name__}"
    keys = list(answer.keys())
    if not isinstance(answer, Mapping) and keys in (
        list(range(len(situation.held))),
        list(situation.symbols),
    ):
        return ""
    strange = [str(key) for key in keys if key not in situation.symbols]
    if strange and situation.symbols:
        return f"{kind} that names {strange[0]}, which is none of them"
    return f"{kind}: an array in the order of situation.symbols is needed"


def interface_faults(strategy: Strategy) -> Iterator[str]:
    """What a strategy says wrongly of itself, a sentence each."""
    for name in ("uses_forecast", "uses_premium"):
        if not isinstance(getattr(strategy, name, None), (bool, np.bool_)):
            yield f"{name} must be True or False"
    if getattr(strategy, "holding", "") not in HOLDINGS:
        yield f"holding must be one of {', '.join(map(repr, HOLDINGS))}"
    for name in CALLS:
        if not callable(getattr(strategy, name, None)):
            yield f"it has no method {name}"
            return
    for name, words in CALLS.items():
        if fault := call_fault(getattr(strategy, name), name, *words):
            yield fault
            return
    for kind in Kind:
        phrase = strategy.phrase(kind, 4.0)
        if not isinstance(phrase, str) or not phrase or "\n" in phrase:
            yield "phrase must be one line of text"


def call_fault(call: Callable[..., Any], name: str, *words: str) -> str:
    """What keeps own code from being called with as many words; empty where nothing does.

    name: of what is called; words: what it is handed, by what it means.
    """
    # A method without even a `self` has no signature once it is bound.
    function = getattr(call, "__func__", call)
    handed = words if function is call else ("self", *words)
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return ""  # compiled code may have none: its call will tell
    try:
        signature.bind(*handed)
    except TypeError:
        plain = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
        written = signature.replace(parameters=plain, return_annotation=signature.empty)
        return f"it is called as {name}({', '.join(handed)}) and is defined as {name}{written}"
    return ""


def allocation_faults(situation: Situation, limits: Limits, allocation: object) -> Iterator[str]:
    """What an answer to a situation breaks, a sentence each."""
    if not isinstance(allocation, Allocation):
        yield f"allocate returns a {type(allocation).__name__} instead of an Allocation"
        return
    symbols = len(situation.held)
    for name in ("target", "unlimited"):
        value = getattr(allocation, name)
        if not isinstance(value, np.ndarray) or value.dtype.kind not in "iuf":
            kind = value.dtype if isinstance(value, np.ndarray) else type(value).__name__
            yield f"{name} must be an array of real numbers, it is {kind}"
            return
        if value.shape != (symbols,):
            yield (
                f"{name} must have a weight for each of {symbols} symbols, its shape is"
                f" {value.shape}"
            )
            return
    binding = allocation.binding
    if len(binding) != symbols or not all(_names_limits(bound) for bound in binding):
        yield f"binding must be a mapping for each of {symbols} symbols, of names to numbers"
        return
    target = allocation.target
    if (bad := ~np.isfinite(target)).any():
        row = first_row(bad)
        seen = "NaN" if np.isnan(target[row]) else target[row]
        yield f"a target is not finite: {seen} for {situation.place(row)}"
        return
    if (bad := np.isinf(allocation.unlimited)).any():
        yield f"unlimited is infinite for {situation.place(first_row(bad))}"
        return
    moved = (np.abs(target - situation.held) > TOLERANCE) & ~situation.deciding
    if moved.any():
        row = first_row(moved)
        yield (
            f"a symbol that does not decide is moved: {situation.place(row)}, from"
            f" {situation.held[row]:g} to {target[row]:g}"
        )
        return
    yield from _broken_limits(situation, limits, target)


def _names_limits(bound: object) -> bool:
    """Whether a symbol's binding has names and numbers."""
    return isinstance(bound, Mapping) and all(
        isinstance(name, str) and isinstance(price, Real) for name, price in bound.items()
    )


def _broken_limits(situation: Situation, limits: Limits, target: Array) -> Iterator[str]:
    """A limit that is over already must not be left further behind."""
    lower, upper = limits.bounds(
        long_only=situation.long_only,
        deciding=situation.deciding,
        held=situation.held,
        equity=situation.equity,
    )
    lower = np.minimum(lower, situation.held)
    upper = np.maximum(upper, situation.held)
    beyond = (target < lower - TOLERANCE) | (target > upper + TOLERANCE)
    if beyond.any():
        row = first_row(beyond)
        yield (
            f"a target lies beyond its symbol's bounds: {target[row]:g} for"
            f" {situation.place(row)}, where {lower[row]:g} … {upper[row]:g} is allowed"
        )
    for ceiling in limits.ceilings(
        crypto=situation.crypto,
        held=situation.held,
        stock_ceiling=situation.stock_ceiling,
        unborrowed=situation.unborrowed,
    ):
        load = float(ceiling.coefficients @ np.abs(target))
        held = float(ceiling.coefficients @ np.abs(situation.held))
        if load > max(ceiling.limit, held) + TOLERANCE:
            yield f"targets lie {load - ceiling.limit:.4f} above the ceiling {ceiling.name}"
