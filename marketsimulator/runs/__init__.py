"""Runs over bars: stepwise, compiled, in many variants, and replays of given weights."""
