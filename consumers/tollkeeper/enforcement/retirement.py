"""Retiring emitters that nobody has seen for long: their holds would be kept for ever.

One that lives after all learns it from its next answer and starts anew; its late usage is charged (R18).
"""

from __future__ import annotations

from collections.abc import Sequence

from tollkeeper.enforcement.emitter_facts import log_retirement
from tollkeeper.enforcement.means import Means
from tollkeeper.gate import encoding

MOST_A_TICK = 100


class Retirement:
    """Watches the lists of all primaries; any number of consumers do. Raises Unavailable from `tick`."""

    def __init__(self, means: Means) -> None:
        self._means = means
        self._watched: dict[str, tuple[dict[str, int], float]] = {}
        self._logged: set[str] = set()

    def tick(self) -> tuple[str, ...]:
        """Log the retirement of those that no primary has seen for `retire_after_s`; who that was.

        With a primary that doesn't answer nobody is retired: it may be the one that sees them.
        """
        seen, unseen = self._look()
        self._watch(seen)
        self._logged &= seen.keys()
        due = [one for one in unseen if one not in self._logged and self._is_still(one)]
        for emitter in due[:MOST_A_TICK]:
            log_retirement(
                self._means.log,
                emitter,
                "unseen",
                now=self._means.clock(),
                timeout_s=self._means.settings.append_timeout_s,
            )
            self._logged.add(emitter)
            self._means.observer.retired(emitter, "unseen")
        return tuple(due[:MOST_A_TICK])

    def _look(self) -> tuple[dict[str, dict[str, int]], Sequence[str]]:
        """When each primary has seen each emitter, and who wasn't seen by any for long."""
        seen: dict[str, dict[str, int]] = {}
        recent: set[str] = set()
        for tag in self._means.functions.tags():
            found = self._means.functions.run(encoding.emitters(tag=tag))
            self._means.observer.emitters(tag, len(found.listed))
            oldest = found.now - round(self._means.settings.retire_after_s * 1_000_000)
            for one in found.listed:
                seen.setdefault(one.emitter, {})[tag] = one.seen_at
                if one.seen_at > oldest:
                    recent.add(one.emitter)
        return seen, [one for one in seen if one not in recent]

    def _watch(self, seen: dict[str, dict[str, int]]) -> None:
        now = self._means.monotonic()
        watched = self._watched
        self._watched = {
            one: watched[one] if one in watched and watched[one][0] == at else (at, now)
            for one, at in seen.items()
        }

    def _is_still(self, emitter: str) -> bool:
        """Whether it was quiet for long enough under our eyes: Redis' clock may have jumped ahead."""
        settings = self._means.settings
        enough_s = min(settings.watched_s, settings.retire_after_s)
        return self._means.monotonic() - self._watched[emitter][1] >= enough_s
