"""Options: paths of the index, prices, selling spreads over years, the desk that fills them."""
