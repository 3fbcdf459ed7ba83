"""Exact quadratic programs for weights: of one instant, and of a plan over several periods."""
