"""Notifications on their way out, as signed webhooks (Standard Webhooks), at least once."""
