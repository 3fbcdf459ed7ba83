"""Simulated account: state, order matching, fills, charges and margin rules."""
