"""The doorbell: anything may ring it, one loop answers it."""

import queue


class Wake:
    """Rings coalesce: however often it was rung, one `wait` answers all of it.

    `ring` never blocks and may be called from a signal handler, from a kazoo callback or from any thread: it is one
    `SimpleQueue.put`, which the standard library documents as reentrant (`threading.Event.set` is not, and can
    deadlock in a signal handler that interrupts `Event.wait`).
    """

    def __init__(self) -> None:
        self._rings: queue.SimpleQueue[None] = queue.SimpleQueue()

    def ring(self) -> None:
        """Ask the loop to look again."""
        if self._rings.empty():
            self._rings.put(None)

    def wait(self, timeout_seconds: float) -> bool:
        """Sleep until somebody rings or the time is over; say whether somebody rang."""
        try:
            self._rings.get(timeout=max(0.0, timeout_seconds))
        except queue.Empty:
            return False
        while not self._rings.empty():
            self._rings.get_nowait()
        return True
