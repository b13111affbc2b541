"""What may be asked about the whole fleet, and what other hosts may ask of this one."""

import socket
import threading
import time
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlencode

from smartstack.actions import BadRequest
from smartstack.inbox import Unanswered
from smartstack.responses import Question, Response, json_response, text_response
from synapse.fleet.asking import ALL_SECONDS, ask_all
from synapse.fleet.merge import Merged
from synapse.fleet.peers import Peers
from synapse.telemetry.parameters import read_window

SHARED: Final = ("/telemetry/stat", "/telemetry/edges", "/telemetry/routes", "/telemetry/points", "/events")
"""The questions of the admin address that other hosts may ask too: figures and events, no request and no path."""

ASKERS_LIMIT: Final = 4
"""Most questions to the fleet at once: each keeps a thread of the admin address for seconds."""

KNOWN_SECONDS: Final = 1.0
"""How long the registry may take to say who is there."""

_KINDS: Final = {"stat": "rows", "edges": "edges", "routes": "rows"}
_HAS_NONE: Final = "answers 404: no such service"
"""Not every host offers every service: who does not has no rows of it, and that is no failure."""

_NOBODY: Final = "no synapse is announced: set `fleet: {listen: ADDRESS:PORT}` in synapse.yaml on each host"


def shared(questions: Mapping[str, Question]) -> dict[str, Question]:
    """The same questions, as far as other hosts may ask them."""
    return {path: _without_learning(questions[path]) for path in SHARED if path in questions}


def fleet_questions(local: Mapping[str, Question], peers: Peers) -> dict[str, Question]:
    """`/fleet/stat`, `/fleet/edges` and `/fleet/routes`: as those below /telemetry, of all synapses together. `local`
    are this synapse's own questions, which know what may be asked."""
    places = threading.BoundedSemaphore(ASKERS_LIMIT)

    def question(name: str) -> Question:
        path = f"/telemetry/{name}"

        def answer(rest: str, query: Mapping[str, str]) -> Response:
            if rest:
                return text_response(404, "no such path: there is nothing below this one")
            if "learn" in query:
                raise BadRequest("learn is for one host: ask /telemetry/routes")
            seconds = read_window(query)  # a host without a feed says only that it has none
            local[path](rest, query)  # what is wrong about the question is raised once, not answered by each host
            if not places.acquire(blocking=False):
                raise Unanswered(f"{ASKERS_LIMIT} ask the fleet already: try again")
            try:
                return _gather(peers, path, query, seconds, _KINDS[name])
            finally:
                places.release()

        return answer

    return {f"/fleet/{name}": question(name) for name in _KINDS if f"/telemetry/{name}" in local}


def _gather(peers: Peers, path: str, query: Mapping[str, str], seconds: int, kind: str) -> Response:
    """Ask everybody, and put together what they say; 404 where all of them say that there is no such service."""
    end = time.monotonic() + ALL_SECONDS
    known = peers.known(KNOWN_SECONDS)
    merged = Merged(kind)
    heard: dict[int, float | str | None] = {}
    asked = f"{path}?{urlencode({**query, 'buckets': '1'})}"
    left = end - time.monotonic()
    for number, body in ask_all([peer.address for peer in known.peers], asked, all_seconds=left):
        if isinstance(body, bytes):
            heard[number] = merged.take(known.peers[number].name, body)
        else:
            heard[number] = None if body.startswith(_HAS_NONE) else body
    hosts = [
        {
            "host": peer.name,
            "address": str(peer.address),
            "covered_seconds": said if isinstance(said, float) else None,
            "error": said if isinstance(said, str) else None,
        }
        for peer, said in ((peer, heard[number]) for number, peer in enumerate(known.peers))
    ]
    if heard and all(said is None for said in heard.values()):
        return text_response(404, "no such service on any host of the fleet that is announced")
    covered = [said for said in heard.values() if isinstance(said, float)]
    answer = {
        "at": time.time(),
        "host": socket.gethostname(),
        "window_seconds": float(seconds),
        "covered_seconds": min(covered, default=None),
        **({"by": query.get("by", "service")} if path == "/telemetry/stat" else {}),
        kind: merged.rows(),
        "hosts": hosts,
        "note": _note(known.problem, hosts, merged.left_out),
    }
    return json_response(200, answer)


def _note(problem: str | None, hosts: list[dict[str, Any]], left_out: int) -> str:
    """What a reader has to know beyond who did not answer; "" where there is nothing."""
    said = []
    if problem is not None:
        said.append(f"the registry does not say who is announced ({problem}); asked were those that were known before")
    elif not hosts:
        said.append(_NOBODY)
    if left_out:
        said.append(f"{left_out} rows are left out: there are too many")
    return "; ".join(said)


def _without_learning(question: Question) -> Question:
    """Paths that were asked for may hold what is nobody else's: they stay on their host."""

    def answer(rest: str, query: Mapping[str, str]) -> Response:
        if "learn" in query:
            raise BadRequest("learn is answered on the host itself only")
        return question(rest, query)

    return answer
