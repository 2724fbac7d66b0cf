"""Commands of the platform's operator: prices published, quarantine released or discarded."""
