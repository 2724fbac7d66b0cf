"""The loop that folds the log into the ledger exactly once."""
