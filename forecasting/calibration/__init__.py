"""Calibration of a forecaster's quantiles by realised outcomes.

The median, the standard deviation and the shape of the quantiles are calibrated.
"""
