"""Cholesky factors with row insertion and deletion, and small dense solvers, compiled.

A factor is the lower triangle L with the reciprocals of its diagonal in place of the diagonal, so
that solving needs no divisions.
"""

from __future__ import annotations

import numpy as np

from foundation.arrays import Array
from foundation.compiled import compiled, jit_fastmath, jit_inline

# Ridge that is added to each variance, relative to the largest variance or linear term: a singular
# matrix then has a factor, and the objective changes by a negligible amount.
RELATIVE_RIDGE = 1e-10

# Share of a variance that other symbols do not explain, at or below which the symbol counts as a
# combination of them and its weight is not determined.
SINGULAR_TOL = 1e-10

PANEL_COLUMNS = 8  # number of columns that are eliminated at once


@jit_fastmath
def append_row(factor: Array, last: int) -> None:
    """Append a row to the factor: convert row `last` of covariances and a variance, in place.

    Forward substitution gives the row; its diagonal element comes from the variance that remains.

    factor: [n, n] array whose rows before `last` are a factor.
    last: index of the new row.
    """
    rest = factor[last, last]
    # The ridge keeps `rest` above zero in exact arithmetic. Rounding can still take it below, and
    # the root of that would make every later step NaN.
    least = 0.5 * RELATIVE_RIDGE * rest
    for a in range(last):
        value = factor[last, a]
        for b in range(a):
            value -= factor[a, b] * factor[last, b]
        value *= factor[a, a]
        factor[last, a] = value
        rest -= value * value
    factor[last, last] = 1.0 / np.sqrt(max(rest, least))


@compiled
def delete_row(factor: Array, removed: int, count: int) -> None:
    """Remove row and column `removed` from the factor, so that `count` rows remain.

    Without the row, each later row has one element above the diagonal. A plane rotation of two
    neighbouring columns removes each such element. This costs O(count²); a new factor would cost
    O(count³).
    """
    for a in range(removed, count):
        for b in range(a + 2):
            factor[a, b] = factor[a + 1, b]
    for a in range(removed, count):
        # factor[a, a + 1] was a diagonal element of its row and still is a reciprocal.
        x = factor[a, a]
        y = 1.0 / factor[a, a + 1]
        length = 1.0 / np.sqrt(x * x + y * y)
        c = x * length
        s = y * length
        factor[a, a] = length
        for b in range(a + 1, count):
            first = factor[b, a]
            second = factor[b, a + 1]
            factor[b, a] = c * first + s * second
            factor[b, a + 1] = c * second - s * first


@jit_fastmath
def solve_in_place(factor: Array, x: Array) -> None:
    """Solve LL'y = x, with L the leading n rows of the factor; y overwrites x [n]."""
    count = len(x)
    for a in range(count):
        value = x[a]
        for b in range(a):
            value -= factor[a, b] * x[b]
        x[a] = value * factor[a, a]
    for a in range(count - 1, -1, -1):
        value = x[a] * factor[a, a]
        x[a] = value
        # Column by column, L' is read along the rows of L, which lie together in memory.
        for b in range(a):
            x[b] -= factor[a, b] * value


@compiled
def solve_by_elimination(system: Array, solution: Array, min_pivot: float) -> int:
    """Solve a small symmetric system by Gaussian elimination with pivoting; return its rank.

    system: [r, r] matrix, overwritten.
    solution: [r] right-hand side, overwritten by the solution; 0 for rows without a pivot.
    min_pivot: minimum pivot, as a share of the largest diagonal element. A row without such a pivot
        counts as a combination of the others.
    """
    size = len(solution)
    rank = 0
    largest = 0.0
    for c in range(size):
        largest = max(largest, abs(system[c, c]))
    smallest = min_pivot * largest
    for c in range(size):
        best = _find_pivot_row(system, c)
        for q in range(size):
            system[c, q], system[best, q] = system[best, q], system[c, q]
        solution[c], solution[best] = solution[best], solution[c]
        if abs(system[c, c]) <= smallest:
            # Two ceilings that bind the same weights give two equal rows. One of them carries the
            # price; a division by infinity gives the other one a price of 0.
            system[c, c] = np.inf
            continue
        rank += 1
        for r in range(size):
            if r != c:
                share = system[r, c] / system[c, c]
                solution[r] -= share * solution[c]
                for q in range(size):
                    system[r, q] -= share * system[c, q]
    for c in range(size):
        solution[c] /= system[c, c]
    return rank


@jit_inline
def _find_pivot_row(system: Array, c: int) -> int:
    """Return the index of the row, from c on, with the largest absolute element in column c."""
    best = c
    for r in range(c + 1, len(system)):
        if abs(system[r, c]) > abs(system[best, c]):
            best = r
    return best


@compiled
def solve_by_cholesky(matrix: Array, solution: Array) -> bool:
    """Solve a positive definite system in place; return False if it is nearly singular.

    matrix: [n, n] matrix, overwritten by its Cholesky factor.
    solution: [n] right-hand side, overwritten by the solution.

    If the result is False, the contents of both arrays are undefined.
    """
    n = len(solution)
    variance = np.empty(n)
    for k in range(n):
        variance[k] = matrix[k, k]
    panel = np.empty((PANEL_COLUMNS, n))
    for begin in range(0, n, PANEL_COLUMNS):
        end = min(begin + PANEL_COLUMNS, n)
        for a in range(begin, n):
            for b in range(begin, min(a + 1, end)):
                value = matrix[a, b]
                for c in range(begin, b):
                    value -= matrix[a, c] * matrix[b, c]
                if a > b:
                    matrix[a, b] = value * matrix[b, b]
                elif value <= SINGULAR_TOL * variance[a]:
                    return False
                else:
                    matrix[a, a] = 1.0 / np.sqrt(value)
                panel[b - begin, a] = matrix[a, b]
        if end < n:
            _subtract_panel(matrix, panel, end)
    solve_in_place(matrix, solution)
    return True


@jit_inline
def _subtract_panel(matrix: Array, panel: Array, end: int) -> None:
    """Subtract the products of the columns in `panel` from the rows of a matrix from `end` on.

    panel: [PANEL_COLUMNS, n] the eliminated columns.

    Products are subtracted in the same order as in an elimination of one column at a time, so the
    result is bitwise equal. Elements of a row are updated in parallel, for which the compiler has
    to know that no index is below 0.
    """
    for a in range(end, len(matrix)):
        row, x = matrix[a], panel[:, a]
        for b in range(np.uint64(end), np.uint64(a + 1)):
            value = row[b] - x[0] * panel[0, b] - x[1] * panel[1, b]
            value = value - x[2] * panel[2, b] - x[3] * panel[3, b]
            value = value - x[4] * panel[4, b] - x[5] * panel[5, b]
            row[b] = value - x[6] * panel[6, b] - x[7] * panel[7, b]
