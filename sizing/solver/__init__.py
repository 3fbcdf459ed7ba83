"""Exact solvers of the quadratic programs for weights, over one period or several."""
