"""The SDK of product services: emitter, durable spool, adapters for providers' usage objects."""
