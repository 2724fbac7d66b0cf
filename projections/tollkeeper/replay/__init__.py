"""Rebuilding the ledger from the log beside the live one, comparing and swapping."""
