"""Usage to try Tollkeeper with: readers of public traces and a seeded synthetic load."""
