"""What every room stands on: errors, configuration, command lines, files, compiled functions.

It knows no market.
"""

VERSION = "1.0.0"  # CHANGELOG.md says what it promises
