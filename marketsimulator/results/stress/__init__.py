"""Stress test of an account: positions, scenarios, outcomes and report."""
