"""Any forecaster's quantiles corrected by what came true: deviation, shape and median."""
