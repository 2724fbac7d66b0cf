"""Where the public traces lie: beside the repository in `../shared/data`, or as TOLLKEEPER_TRACES says.

They are never part of the project. A test that lacks them uses the synthetic workload and says so.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

AZURE = "azure_llm_2023_conversation.csv"
MOONCAKE = "mooncake_conversation.jsonl"
_BESIDE = Path(__file__).resolve().parents[3] / "shared" / "data"


def find_trace(name: str) -> Path | None:
    """The trace's file, or None where it isn't at hand."""
    path = Path(os.environ.get("TOLLKEEPER_TRACES", _BESIDE)) / name
    return path if path.is_file() else None


def require_trace(name: str) -> Path:
    """The trace's file; without it the test is skipped, and the reason names what stands in for it."""
    path = find_trace(name)
    if path is None:
        pytest.skip(
            f"{name} isn't at hand (set TOLLKEEPER_TRACES): the synthetic workload is tested"
        )
    return path
