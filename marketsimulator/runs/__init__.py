"""Ways to run over bars: instant by instant, whole variants compiled, given weights, buy and
hold.
"""
