"""The gate: what product services ask before they spend. See `functions` for how Redis is asked.

Must not know SQL: rate cards, requests to warm and epochs reach product services through Redis.
"""
