"""Covariances that are checked once, for many answers under the same one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from foundation.arrays import Array
from sizing.solver.validation import check_covariance, check_shapes, float_array


@dataclass(frozen=True, eq=False, slots=True)
class Covariance:
    """Of the returns of S symbols; checking it takes longer than an answer under it.

    matrix: [S, S] symmetric, positive semi-definite.
    """

    matrix: Array

    def __post_init__(self) -> None:
        matrix = float_array("covariance", self.matrix).copy()
        if matrix.shape != (len(matrix),) * 2:
            raise ValueError(f"covariance must have shape [S, S], got {matrix.shape}")
        check_covariance(matrix)
        object.__setattr__(self, "matrix", matrix)

    @classmethod
    def of_factors(cls, loadings: npt.ArrayLike, variance: npt.ArrayLike) -> Covariance:
        """Low rank plus diagonal: loadings @ loadings' + diag(variance), a covariance by its form.

        Parameters
        ----------
        loadings : [S, F]
            on F factors of variance 1 that are not correlated.
        variance : [S]
            what the factors leave, at least 0.

        Raises
        ------
        ValueError
            naming the argument that cannot be.
        """
        load = float_array("loadings", loadings)
        rest = float_array("variance", variance)
        if load.ndim != 2 or not np.isfinite(load).all():
            raise ValueError(f"loadings must be finite and have shape [S, F], got {load.shape}")
        check_shapes({"variance": rest}, len(load))
        if not (np.isfinite(rest) & (rest >= 0)).all():
            raise ValueError("variance must be finite and not negative")
        matrix = load @ load.T
        matrix.reshape(-1)[:: len(rest) + 1] += rest
        made = object.__new__(cls)
        object.__setattr__(made, "matrix", matrix)
        return made
