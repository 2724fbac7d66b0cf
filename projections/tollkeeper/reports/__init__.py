"""Queries over the ledger: balance, spend, draft invoice, freshness. Writes nothing."""
