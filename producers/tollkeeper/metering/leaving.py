"""An own emitter that writes no more and is sent: until its directory may go.

One without holds goes at once. One that may have holds goes when the last of them is settled and *that*
usage is on the log, which may stand in the spool of the incarnation that came after it; then the log
is told of its end. Once nothing more can be written it goes in any case. Must not know threads.
"""

from __future__ import annotations

from collections.abc import Callable

from tollkeeper.metering.incarnation import Incarnation
from tollkeeper.metering.outlet import Outlet
from tollkeeper.metering.spool import Place

Target = dict[Incarnation, Place]


class Leaving:
    """One incarnation, from its last acknowledged record to the removal of its directory."""

    def __init__(self, incarnation: Incarnation) -> None:
        self.incarnation = incarnation
        self._target: Target | None = None
        """Up to where everything reached that this process had spooled when no hold was left."""

    def is_free(
        self,
        is_in_use: Callable[[str], bool],
        target: Callable[[], Target],
        has_sent: Callable[[Target], bool],
    ) -> bool:
        """Whether nothing that settles a hold of this emitter can come to the log any more."""
        if not self.incarnation.directory.is_announced():
            return True
        if self._target is None and not is_in_use(self.incarnation.emitter):
            self._target = target()  # after the question: a settled hold's usage is durable by then
        return self._target is not None and has_sent(self._target)

    def end(self, outlet: Outlet, forget: Callable[[Leaving], None]) -> int:
        """Tell the log if it knows this emitter, then delete the directory; answers the bytes freed.

        LogUnavailable: nothing was done. OSError: the log was told, and the directory given up.
        """
        emitter, directory = self.incarnation.emitter, self.incarnation.directory
        if directory.is_announced():
            outlet.tell_retired(emitter, actor=emitter, reason="closed")
        forget(self)
        return directory.remove()
