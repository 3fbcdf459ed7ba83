"""Prices over the wire: stock and crypto bars, option chains, and the transport they share."""
