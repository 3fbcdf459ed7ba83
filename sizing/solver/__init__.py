"""The exact program behind every weight: one instant's, and a plan's over periods of time."""
