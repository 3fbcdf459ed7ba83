"""Calibration of any forecaster's quantiles by outcomes: deviation, shape and median."""
