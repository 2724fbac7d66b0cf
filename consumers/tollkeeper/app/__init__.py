"""Settings, wiring and the command line: the only place that reads environment and clock."""
