"""The active-set method against an interior-point solver that shares nothing with it."""

from __future__ import annotations

import numpy as np
import piqp
import pytest

from foundation.arrays import Array
from sizing.solver.active_set import INFEASIBLE, SOLVED, solve
from sizing.solver.segments import Program
from tests.sizing.hard_ceilings import program, solved, whole_risk


def problem(rng: np.random.Generator, n: int) -> Program:
    """Near-singular risk, ties with knots and ceilings that coincide: what a book at its limits
    looks like.
    """
    factors = rng.normal(0, 0.01, (n, int(rng.integers(1, n + 3))))
    risk = factors @ factors.T / factors.shape[1] * rng.choice([0.1, 1.0]) * 2
    if rng.random() < 0.7:
        risk += np.diag(rng.uniform(0, 1e-4, n))
    cap = float(rng.choice([0.1, 0.3, 0.6]))
    crypto = rng.random(n) < 0.3
    lower = np.where(crypto, 0.0, -cap)
    upper = np.full(n, cap)
    held = np.where(rng.random(n) < 0.5, 0.0, rng.uniform(-0.5, 0.5, n))
    held = np.where(crypto, np.abs(held), held)
    if rng.random() < 0.5:
        held = np.clip(held, lower, upper)
    cost = np.where(rng.random(n) < 0.8, rng.choice([0.0, 2e-4, 2e-3]), 0.0)
    ceiling = float(rng.choice([0.5, 1.0, 2.0, 4.0]))
    groups = [~crypto * 1.0, crypto * 1.0, ~crypto / ceiling + crypto]
    room = [ceiling, 1.0, 1.0]
    if rng.random() < 0.3:
        groups.append(crypto * 1.0)
        room.append(float(rng.uniform(0, 0.5)))
    pull = rng.normal(0, rng.choice([1e-4, 1e-3, 5e-3]), n)
    return program(pull, risk, lower, upper, held, cost, np.array(groups), np.array(room))


def value(p: Program, w: Array) -> float:
    return float(p.pull @ w - w @ whole_risk(p) @ w / 2 - p.cost @ np.abs(w - p.held))


def interior(p: Program) -> Array:
    """The same program in long, short, bought and sold parts, by PIQP."""
    n = len(p.pull)
    eye = np.eye(n)
    none = np.zeros((n, n))
    hessian = np.zeros((4 * n, 4 * n))
    split = np.hstack([eye, -eye])
    hessian[: 2 * n, : 2 * n] = split.T @ whole_risk(p) @ split
    slope = np.concatenate([-p.pull, p.pull, p.cost, p.cost])
    rows = np.hstack([p.groups, p.groups, np.zeros((len(p.room), 2 * n))])
    rows = np.vstack([rows, np.hstack([split, none, none]), -np.hstack([split, none, none])])
    limits = np.concatenate([p.room, p.upper, -p.lower])
    solver = piqp.DenseSolver()
    s = solver.settings
    s.eps_abs = s.eps_rel = s.eps_duality_gap_abs = s.eps_duality_gap_rel = 1e-11
    s.max_iter = 400
    scale = 1 / max(float(np.abs(p.pull).max()), float(np.abs(p.variance).max()), 1e-12)
    solver.setup(
        np.asfortranarray(hessian * scale),
        slope * scale,
        np.asfortranarray(np.hstack([split, -eye, eye])),
        p.held,
        np.asfortranarray(rows),
        None,
        limits,
        np.zeros(4 * n),
        np.full(4 * n, 10.0),
    )
    solver.solve()
    x = np.asarray(solver.result.x)
    return x[:n] - x[n : 2 * n]


def check(seed: int, n: int) -> None:
    p = problem(np.random.default_rng(seed), n)
    status, w, prices = solved(p)
    assert status == SOLVED
    assert (w >= p.lower).all()
    assert (w <= p.upper).all()
    assert (p.groups @ np.abs(w) <= p.room + 1e-10).all()
    assert value(p, w) >= value(p, interior(p)) - 1e-9
    assert (prices >= -1e-9).all()
    assert (prices[p.groups @ np.abs(w) < p.room - 1e-7] == 0).all()


def test_no_interior_point_answer_is_better() -> None:
    for seed in range(1200):
        check(seed, 1 + seed % 12)
    for seed in range(60):
        check(10_000 + seed, 30)


@pytest.mark.slow
def test_no_interior_point_answer_is_better_in_thousands_of_larger_problems() -> None:
    for seed in range(20_000, 50_000):
        check(seed, 1 + seed % 15)
    for seed in range(50_000, 52_000):
        check(seed, 20 + seed % 41)
    for seed in range(60_000, 60_020):
        check(seed, 200)


def test_a_price_is_what_more_room_is_worth() -> None:
    for seed in range(300):
        p = problem(np.random.default_rng(seed), 6)
        _, w, prices = solved(p)
        for k in np.flatnonzero(prices > 1e-6):
            more = p.room.copy()
            more[k] += 1e-6
            gain = value(p, solved(p, room=more)[1]) - value(p, w)
            assert gain <= prices[k] * 1e-6 + 1e-13


def test_the_same_problem_has_the_same_answer_to_the_last_bit() -> None:
    p = problem(np.random.default_rng(5), 10)
    answers = [solved(p)[1] for _ in range(3)]
    np.testing.assert_array_equal(answers[0], answers[1])
    np.testing.assert_array_equal(answers[0], answers[2])


def test_nothing_to_gain_moves_nothing() -> None:
    """At zero pull and with costs, what is held stays to the last bit."""
    rng = np.random.default_rng(6)
    held = rng.uniform(-0.1, 0.1, 8)
    p = program(
        np.zeros(8),
        np.eye(8) * 1e-5,
        np.full(8, -0.6),
        np.full(8, 0.6),
        held,
        np.full(8, 1e-3),
        np.ones((1, 8)),
        np.array([4.0]),
    )
    np.testing.assert_array_equal(solve(p)[1], held)


def test_what_must_be_held_may_take_most_of_the_room_there_is() -> None:
    """At least 0.6 and 0.3 of a room of 1, held nothing: by hand the first stays, the second
    rises until the room is full.
    """
    one = np.ones(1)
    two = np.ones((1, 2))
    bounds = np.array([0.6, 0.3]), np.array([2.0, 2.0])
    p = Program(
        np.array([0.1, 3.0]),
        np.ones(2),
        np.zeros((1, 2, 2)),
        *bounds,
        np.zeros(2),
        np.zeros(2),
        two,
        one,
        np.full(1, np.inf),
        one == 0,
    )
    status, weights, prices = solve(p)
    assert status == SOLVED
    assert weights == pytest.approx([0.6, 0.4])
    assert prices == pytest.approx([2.6])
    assert solve(p._replace(room=0.8 * one))[0] == INFEASIBLE
