"""The service's side of the gate: what the ledger says reaches Redis, and only a trusted Redis grants.

Everything is an object whose methods neither wait nor loop for ever: `app` calls them in threads, the
simulator from its own schedule.
"""
