"""Cholesky factors that gain and lose rows, and the small systems beside them, compiled.

A factor is the lower triangle L with the reciprocals of its diagonal, so that no step of a solution
waits for a division.
"""

from __future__ import annotations

import numpy as np

from foundation.arrays import Array, Index
from foundation.compiled import compiled, reordered

# of the largest variance or pull, added to each variance: a singular matrix has a factor, no
# objective moves
RIDGE = 1e-10
SINGULAR = 1e-10  # of a variance: what the other symbols leave of it, below which it is theirs


@reordered
def append_row(matrix: Array, chosen: Index, factor: Array) -> None:
    """The factor of matrix[chosen, chosen] from that of all but the last: forward substitution,
    then what is left.
    """
    last = len(chosen) - 1
    i = chosen[last]
    rest = matrix[i, i]
    least = 0.5 * RIDGE * rest
    for a in range(last):
        value = matrix[i, chosen[a]]
        for b in range(a):
            value -= factor[a, b] * factor[last, b]
        value *= factor[a, a]
        factor[last, a] = value
        rest -= value * value
    factor[last, last] = 1.0 / np.sqrt(max(rest, least))


@compiled
def delete_row(factor: Array, gone: int, count: int) -> None:
    """The factor without row and column `gone`, `count` left: plane rotations make it
    triangular again.
    """
    for a in range(gone, count):
        for b in range(a + 2):
            factor[a, b] = factor[a + 1, b]
    for a in range(gone, count):
        x = factor[a, a]
        y = 1.0 / factor[a, a + 1]
        length = 1.0 / np.sqrt(x * x + y * y)
        c = x * length
        s = y * length
        factor[a, a] = length
        for b in range(a + 1, count):
            left = factor[b, a]
            right = factor[b, a + 1]
            factor[b, a] = c * left + s * right
            factor[b, a + 1] = c * right - s * left


@reordered
def solve_in_place(factor: Array, x: Array) -> None:
    """x [n] becomes (LL')⁻¹x, L the leading n rows of the factor."""
    count = len(x)
    for a in range(count):
        value = x[a]
        for b in range(a):
            value -= factor[a, b] * x[b]
        x[a] = value * factor[a, a]
    for a in range(count - 1, -1, -1):
        value = x[a] * factor[a, a]
        x[a] = value
        for b in range(a):
            x[b] -= factor[a, b] * value


@compiled
def eliminate(system: Array, wanted: Array, least: float) -> int:
    """wanted becomes the solution of a small symmetric system, by elimination with row exchange;
    its rank.

    least: pivot, as a share of the largest diagonal element, below which there is none.
    """
    size = len(wanted)
    rank = 0
    smallest = least * np.abs(np.diag(system)).max()
    for c in range(size):
        best = c + np.argmax(np.abs(system[c:, c]))
        for q in range(size):
            system[c, q], system[best, q] = system[best, q], system[c, q]
        wanted[c], wanted[best] = wanted[best], wanted[c]
        if abs(system[c, c]) <= smallest:
            system[c, c] = np.inf
            continue
        rank += 1
        for r in range(size):
            if r != c:
                share = system[r, c] / system[c, c]
                wanted[r] -= share * wanted[c]
                system[r] -= share * system[c]
    for c in range(size):
        wanted[c] /= system[c, c]
    return rank


@compiled
def factored_solve(matrix: Array, wanted: Array) -> bool:
    """wanted becomes matrix⁻¹ wanted, matrix its Cholesky factor, in place; False where the
    matrix is nearly singular.
    """
    n = len(wanted)
    for a in range(n):
        variance = matrix[a, a]
        for b in range(a + 1):
            value = matrix[a, b]
            for c in range(b):
                value -= matrix[a, c] * matrix[b, c]
            if a > b:
                matrix[a, b] = value * matrix[b, b]
            elif value <= SINGULAR * variance:
                return False
            else:
                matrix[a, a] = 1.0 / np.sqrt(value)
    solve_in_place(matrix, wanted)
    return True
