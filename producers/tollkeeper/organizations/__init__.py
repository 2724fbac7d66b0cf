"""Commands of owners and operators on one organization: command, decide, events."""
