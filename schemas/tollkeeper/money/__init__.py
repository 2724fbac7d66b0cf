"""Amounts, instants and billing periods as integers. Pure; knows nothing above it."""
