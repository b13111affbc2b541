"""Asks nameservers, for all names on one thread. The only home of dnspython.

What cannot be found out is a failure, whatever the reason: a nameserver that does not answer, answers with an error, or
sends us elsewhere. That a name does not exist, or has no such records, is an answer.
"""

import asyncio
import random
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import dns.asyncresolver
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.nameserver
import dns.rdatatype
import dns.resolver
from dns.rdtypes.IN.SRV import SRV

from smartstack.forms import TcpAddress
from smartstack.instance import printable
from smartstack.registry.protocol import Listing, Ring, Unknown
from synapse.sources.dns_answers import (
    Target,
    addresses_listing,
    best_targets,
    pause_seconds,
    retry_seconds,
    targets_listing,
)

TRY_SECONDS = 2.0
"""How long one nameserver is waited for."""

LIFETIME_SECONDS = 5.0
"""How long one question may take, with all nameservers and tries."""

TARGETS_AT_ONCE = 20
"""How many targets of SRV records are looked up at the same time."""

_STOP_SECONDS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A name and what to make of the answer. `record` None: A and AAAA; `port` None: what SRV says."""

    name: str
    record: str | None
    port: int | None
    nameservers: tuple[TcpAddress, ...]
    min_ttl: float
    max_ttl: float


class Failure(Exception):
    """Nothing was found out; the text says why."""


class Resolver:
    """The thread on which names are looked up; there is one while there is somebody to look up for."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._users = 0

    def run(self, work: Coroutine[Any, Any, None]) -> "Future[None]":
        """Run this on the thread, for a user that will say `leave`."""
        self._users += 1
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=_turn, args=(self._loop,), name="dns", daemon=True)
            self._thread.start()
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def leave(self, work: "Future[None]") -> None:
        """End this work; the last one ends the thread."""
        work.cancel()
        self._users -= 1
        if self._users == 0 and self._loop is not None and self._thread is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(_STOP_SECONDS)
            self._loop = self._thread = None


def _turn(loop: asyncio.AbstractEventLoop) -> None:
    """The thread: ends what is under way when the loop is stopped."""
    loop.run_forever()
    loop.run_until_complete(_end())
    loop.close()


async def _end() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class Lookup:
    """One name, looked up again and again. See `Source`."""

    def __init__(self, question: Question, resolver: Resolver) -> None:
        self._question = question
        self._resolver = resolver
        self._work: Future[None] | None = None
        self._ring: Ring | None = None
        self._answer: Listing | Unknown = Unknown(reason=f"{question.name} was not looked up yet", since=time.time())

    def start(self, ring: Ring) -> None:
        self._ring = ring
        self._work = self._resolver.run(follow(self._question, self._hear))

    def read(self) -> Listing | Unknown:
        return self._answer

    def due_in(self) -> float | None:
        return None

    def stop(self) -> None:
        if self._work is not None:
            self._resolver.leave(self._work)
            self._ring = self._work = None

    def _hear(self, answer: Listing | str) -> None:
        """On the resolver's thread: keep it, and ring where it is news."""
        before = self._answer
        if isinstance(answer, str):
            if isinstance(before, Unknown) and before.reason == answer:
                return
            since = before.since if isinstance(before, Unknown) else time.time()
            self._answer = Unknown(reason=answer, since=since)
        elif answer == before:
            return
        else:
            self._answer = answer
        ring = self._ring
        if ring is not None:
            ring()


async def follow(question: Question, hear: Callable[[Listing | str], None]) -> None:
    """Look a name up for ever: when its time is over, and after a failure soon."""
    failures = 0
    while True:
        # Whatever goes wrong is a failure: a task that ended by itself would leave its last answer standing for ever.
        (outcome,) = await asyncio.gather(look_up(question), return_exceptions=True)
        if isinstance(outcome, BaseException):
            failures += 1
            hear(f"{question.name} cannot be looked up: {_words(outcome)}")
            pause = retry_seconds(failures, question.max_ttl, random.random())
        else:
            failures = 0
            listing, ttl = outcome
            hear(listing)
            pause = pause_seconds(ttl, question.min_ttl, question.max_ttl, random.random())
        await asyncio.sleep(pause)


async def look_up(question: Question) -> tuple[Listing, float]:
    """The instances, and for how many seconds the answer is good. Raises `Failure`."""
    asker = _Asker(question.nameservers)
    if question.record != "srv":
        kinds = (question.record,) if question.record else ("a", "aaaa")
        found = await asyncio.gather(*(asker.addresses(question.name, kind) for kind in kinds))
        addresses = [address for some, _ in found for address in some]
        return addresses_listing(addresses, question.port or 0), min(ttl for _, ttl in found)
    records, ttl = await asker.ask(question.name, "srv")
    targets = best_targets(_targets(records))
    names = sorted({target.name for target in targets})
    places = await asyncio.gather(*(asker.addresses_of_target(name) for name in names))
    by_name = {name: some for name, (some, _) in zip(names, places, strict=True)}
    return targets_listing(targets, by_name, question.port), min([ttl, *(ttl for _, ttl in places)])


def _targets(records: Iterable[Any]) -> Iterable[Target]:
    for record in records:
        assert isinstance(record, SRV)
        name = printable(record.target.to_text(omit_final_dot=True), 255)
        yield Target(priority=record.priority, weight=record.weight, port=record.port, name=name)


class _Asker:
    """Asks one question after another of the same nameservers."""

    def __init__(self, nameservers: Sequence[TcpAddress]) -> None:
        try:
            self._resolver = dns.asyncresolver.Resolver(configure=not nameservers)
        except (dns.resolver.NoResolverConfiguration, OSError) as error:
            raise Failure("there is no nameserver in /etc/resolv.conf") from error
        if nameservers:
            self._resolver.nameservers = [
                dns.nameserver.Do53Nameserver(address.host, address.port) for address in nameservers
            ]
        self._resolver.timeout = TRY_SECONDS
        self._gate = asyncio.Semaphore(TARGETS_AT_ONCE)

    async def addresses(self, name: str, kind: str) -> tuple[list[str], float]:
        """The addresses of a name, of one family."""
        records, ttl = await self.ask(name, kind)
        return [str(record.address) for record in records], ttl

    async def addresses_of_target(self, name: str) -> tuple[list[str], float]:
        """The addresses of an SRV record's target: of IPv4, and of IPv6 where it has none of those, because each of
        them becomes an instance, and the target is one."""
        async with self._gate:
            addresses, ttl = await self.addresses(name, "a")
            if addresses:
                return addresses, ttl
            addresses, other = await self.addresses(name, "aaaa")
            return addresses, min(ttl, other)

    async def ask(self, name: str, kind: str) -> tuple[list[Any], float]:
        """The records, and for how many seconds they are good: no records where there is no such name, or none of this
        kind. Raises `Failure`."""
        asked = dns.name.from_text(name)
        try:
            answer = await self._resolver.resolve(
                asked, kind, search=False, raise_on_no_answer=False, lifetime=LIFETIME_SECONDS
            )
        except dns.resolver.NXDOMAIN as unknown:
            response: dns.message.QueryMessage = unknown.kwargs["responses"][asked]
            return [], response.resolve_chaining().minimum_ttl
        except (dns.resolver.NoNameservers, dns.resolver.LifetimeTimeout) as error:
            raise Failure(f"{kind.upper()}: {_of_everyone(error.kwargs['errors'])}") from error
        except (dns.exception.DNSException, OSError, ValueError) as error:
            raise Failure(f"{kind.upper()}: {_words(error)}") from error
        chain = answer.chaining_result
        if answer.rrset is None and _is_elsewhere(answer.response, aliased=bool(chain.cnames)):
            raise Failure(f"{kind.upper()}: the nameserver refers to others; give one that resolves")
        return list(answer.rrset or ()), chain.minimum_ttl


def _is_elsewhere(response: dns.message.Message, *, aliased: bool) -> bool:
    """Whether an answer without records says no more than where to ask: a referral (RFC 2308, 2.2), or an alias whose
    end the nameserver did not look for."""
    kinds = {rrset.rdtype for rrset in response.authority}
    referral = dns.rdatatype.NS in kinds and dns.rdatatype.SOA not in kinds
    return (referral or aliased) and not response.flags & dns.flags.RA


def _of_everyone(errors: Iterable[tuple[Any, ...]]) -> str:
    """The last word of each nameserver; the same words for the same trouble, however long it took."""
    last = {f"{text.removeprefix('Do53:').replace('@', ' port ')}": error for text, _, _, error, _ in errors}
    words = (f"{nameserver}: {_words(error)}" for nameserver, error in sorted(last.items()))
    return "; ".join(words) or "no nameserver was asked"


def _words(error: object) -> str:
    match error:
        case dns.exception.Timeout():
            return "no answer in time"
        case OSError():
            return (error.strerror or str(error) or type(error).__name__).lower()
        case Failure() | str():
            return printable(str(error), 300)
    return printable(f"{type(error).__name__}: {error}", 200)
