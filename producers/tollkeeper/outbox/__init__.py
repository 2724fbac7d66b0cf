"""Events that were decided and wait for the log, and the relay that brings them there."""
