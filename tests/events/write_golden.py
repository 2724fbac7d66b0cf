"""Write the golden record of each new schema: `python tests/events/write_golden.py`.

For a new `<Event>.v<version>.avsc`, write `tests/golden/<Event>.v<version>.json` by hand, run this
once, and commit both. A record that exists is never written again: it is what old logs hold.
"""

from __future__ import annotations

import json
from pathlib import Path

import msgspec

from tollkeeper.events.codec import Event, encode
from tollkeeper.events.rules import RULES

GOLDEN = Path(__file__).parent.parent / "golden"


def main() -> None:
    """Encode what has no record yet."""
    kinds = {kind.__name__: kind for kind in RULES}
    for document in sorted(GOLDEN.glob("*.json")):
        record = document.with_suffix(".bin")
        if not record.exists():
            content = json.loads(document.read_text())
            event: Event = msgspec.convert(content["values"], kinds[content["event"]])
            record.write_bytes(encode(event))


if __name__ == "__main__":
    main()
