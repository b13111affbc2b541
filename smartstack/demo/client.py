"""The client: steady requests, a new connection for each, and every answer that is not whole and good is counted."""

import http.client
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from smartstack.demo.service import INSTANCE_HEADER
from smartstack.forms import TcpAddress

TIMEOUT_SECONDS = 5.0
REMEMBERED_FAILURES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A request that failed; `at` in seconds since the epoch."""

    at: float
    service: str
    reason: str

    def __str__(self) -> str:
        clock = time.strftime("%H:%M:%S", time.localtime(self.at))
        return f"{clock}.{int(self.at * 1000) % 1000:03d} {self.service}: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What became of the requests to one service so far."""

    answers: Mapping[str, int] = field(default_factory=dict)
    failed: int = 0

    @property
    def ok(self) -> int:
        """Answered well."""
        return sum(self.answers.values())

    @property
    def total(self) -> int:
        """Asked at all."""
        return self.ok + self.failed


class Client:
    """Asks each service so many times a second, each from a thread of its own, one request after the other."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._answers: dict[str, Counter[str]] = {}
        self._failed: Counter[str] = Counter()
        self._failures: list[Failure] = []
        self._threads: list[threading.Thread] = []
        self._stopped = threading.Event()

    def ask(self, service: str, address: TcpAddress, per_second: float) -> None:
        """From now on ask this service too."""
        self._answers[service] = Counter()
        thread = threading.Thread(
            target=self._run, args=(service, address, 1 / per_second), name=f"client-{service}", daemon=True
        )
        self._threads.append(thread)
        thread.start()

    def stop(self) -> None:
        """Ask no more; the requests under way are waited for and counted."""
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def tally(self, service: str) -> Tally:
        """What became of the requests to this service so far."""
        with self._lock:
            return Tally(answers=dict(self._answers.get(service, {})), failed=self._failed[service])

    def total(self) -> Tally:
        """The same for all services; `answers` by service."""
        with self._lock:
            answers = {service: counts.total() for service, counts in self._answers.items()}
            return Tally(answers=answers, failed=self._failed.total())

    def failures(self) -> tuple[Failure, ...]:
        """The first failures."""
        with self._lock:
            return tuple(self._failures)

    def _run(self, service: str, address: TcpAddress, interval: float) -> None:
        due = time.monotonic()
        while not self._stopped.is_set():
            began = time.time()
            instance, reason = request(address)
            with self._lock:
                if reason is None:
                    self._answers[service][instance] += 1
                else:
                    self._failed[service] += 1
                    if len(self._failures) < REMEMBERED_FAILURES:
                        self._failures.append(Failure(at=began, service=service, reason=reason))
            # What could not be asked in time is not asked later: the rate is an upper bound.
            due = max(due + interval, time.monotonic() - interval)
            self._stopped.wait(max(0.0, due - time.monotonic()))


def request(address: TcpAddress) -> tuple[str, str | None]:
    """One request on a connection of its own: the instance that answered, and why it failed, None if it did not."""
    connection = http.client.HTTPConnection(address.host, address.port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("GET", "/", headers={"Connection": "close"})
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            return "", f"HTTP {answer.status} {body[:80].decode('utf-8', 'replace').strip()}"
        if answer.length is None:
            # Not even the end of the headers need have arrived: without a length nobody can tell.
            return "", "an answer without a length, cut off or not the service's"
        instance = answer.getheader(INSTANCE_HEADER)
        return (instance, None) if instance else ("", "an answer that is not the service's")
    except TimeoutError:
        return "", f"no answer within {TIMEOUT_SECONDS:g} s"
    except (OSError, http.client.HTTPException) as error:
        return "", f"{type(error).__name__}: {error}"
    finally:
        connection.close()
