"""What a turn of the loop came to, for those who do without the proxy: the board, and the files of the outputs."""

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from smartstack.logs import EventLog
from synapse.board import Board
from synapse.offers import Offer
from synapse.outputs import Outputs
from synapse.selection import Origin
from synapse.services import view
from synapse.settings import Settings
from synapse.staleness import Stale, stale
from synapse.status import Snapshot
from synapse.store import Store


class Publisher:
    """`board` is where the admin address's threads wait for changes; `stale` is what has been in use for too long."""

    def __init__(self, state_directory: str, store: Store, log: EventLog, ring: Callable[[], None]) -> None:
        self.board = Board()
        self.stale: Stale | None = None
        self._store = store
        self._outputs = Outputs(Path(state_directory) / "outputs.json", log, ring)

    @property
    def problems(self) -> tuple[str, ...]:
        """What keeps the outputs from being in step."""
        return self._outputs.problems

    def look_at_age(self, offers: Mapping[str, Offer], missing: Collection[str], limit_seconds: float) -> None:
        """How old is what is in use without anybody's word. While the sources speak, what is on disk is of now."""
        if not missing and all(offer.choice.origin is not Origin.LAST_GOOD for offer in offers.values()):
            self._store.touch_good()
        self.stale = stale(offers, missing, self._store.good_at, time.time(), limit_seconds)

    def publish(self, snapshot: Snapshot, settings: Settings, changed: Collection[str]) -> None:
        """Tell of the services whose offers changed in this turn, and of those that HAProxy was told of."""
        touched = {
            *changed,
            *(action.backend for action in snapshot.plan.actions if snapshot.planned_at == snapshot.at),
        }
        offers = snapshot.offers
        backends = snapshot.observed.backends if snapshot.observed else {}
        self.board.post(
            {name: (offers[name].placement, tuple(backends.get(name, ()))) for name in touched if name in offers},
            offers,
        )
        self._outputs.configure(settings.outputs)

        def views(names: Iterable[str]) -> Mapping[str, Mapping[str, Any]]:
            """Of services that nobody has said anything of there is nothing to write: what a file says stays."""
            known = {name for name in names if name in offers and offers[name].choice.origin is not Origin.NOTHING}
            return {name: view(snapshot, name) for name in known}

        if touched:
            self._outputs.post(touched, offers, views)

    def stop(self) -> None:
        """Let everybody go who waits; the files stay."""
        self.board.close()
        self._outputs.stop()
