"""`gate.wrap(client)`: the providers' client libraries with a hold before every call that costs tokens."""
