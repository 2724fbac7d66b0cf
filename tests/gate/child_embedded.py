"""A process that wants the embedded gate as soon as it is told, and says which run of it it got."""

from __future__ import annotations

import sys
from pathlib import Path

from redis import Redis

from tollkeeper.gate.embedded import embedded_gate


def main(home: str) -> None:
    """Says `here`, waits for a line, says the server's run id, waits for the end of its input."""
    sys.stdout.write("here\n")
    sys.stdout.flush()
    sys.stdin.readline()
    with Redis.from_url(embedded_gate(Path(home))) as client:
        sys.stdout.write(f"{client.info('server')['run_id']}\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1])
