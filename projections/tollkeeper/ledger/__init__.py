"""What the log folds into: folds, tables, store."""
