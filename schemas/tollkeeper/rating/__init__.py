"""Rate cards and rating: what one usage event costs (RULES R15, R16). Pure."""
