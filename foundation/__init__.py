"""What every room stands on: errors, configuration, command lines, files, compiled functions.

It knows no market.
"""
