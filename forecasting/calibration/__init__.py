"""Calibration of a forecaster's quantiles by realised outcomes: deviation, shape and median."""
