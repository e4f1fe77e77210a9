"""Tradewind's packages for Python."""
