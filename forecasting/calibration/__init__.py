"""Any forecaster's quantiles corrected by what came true: spread, shape and centre."""
