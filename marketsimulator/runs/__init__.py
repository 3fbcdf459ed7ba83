"""Runs over bars: stepped by instant, compiled, as variants of one run, or of given weights."""
