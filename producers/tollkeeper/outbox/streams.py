"""The names of the streams of decided events: each stream has one order, kept on its way to the log."""

from __future__ import annotations


def organization_stream(organization: str) -> str:
    """The organization's own history, one version after the other."""
    return f"organization/{organization}"


def prices_stream(partition: int) -> str:
    """The publications on one partition; every partition has the same ones."""
    return f"prices/{partition}"


def quarantine_stream(partition: int, offset: int) -> str:
    """What was decided about the dead letter that stands at this place of the log."""
    return f"quarantine/{partition}/{offset}"


def policies_stream(partition: int) -> str:
    """The gate's default policies on one partition; every partition has the same ones."""
    return f"policies/{partition}"
