"""The `http` check: a GET is answered with a status of 200 to 399. The only home of requests in the daemon."""

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from nerve.checks.base import Outcome, Pace, Target, failed, passed, seconds_text
from smartstack.forms import HOST, PORT, TcpAddress
from smartstack.model import Form

if TYPE_CHECKING:
    import requests

BODY_LIMIT = 65_536
"""How much of an answer is read, in bytes; a longer body is left unread."""

_EXCERPT_LIMIT = 80
_HEADERS = {"User-Agent": "smartstack-nerve", "Accept": "*/*", "Accept-Encoding": "identity", "Connection": "close"}


def _path(value: object) -> str:
    if not isinstance(value, str) or not value.startswith("/") or not value.isprintable() or " " in value:
        raise ValueError("must be a path that starts with '/' and has no spaces, such as /health")
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpCheck(Pace):
    """GET a path. Passes when the status is 200 to 399 and the answer (up to 64 KiB of it) was there in time.

    Redirects are an answer and are not followed. Proxies and credentials of the environment are not used.
    """

    kind: ClassVar[str] = "http"

    path: Annotated[str, "the path that is asked for", Form(_path, {"type": "string", "pattern": "^/[^ ]*$"})] = "/"
    host: Annotated[str | None, "whom to ask, if not the instance's address", HOST] = None
    port: Annotated[int | None, "whom to ask, if not the instance's port", PORT] = None

    def run(self, target: Target) -> Outcome:
        """Raises nothing for what the network or the answer do. Imports requests on first use: it costs 5 MB, and
        many hosts have no http check."""
        import requests

        address = TcpAddress(self.host or target.address.host, self.port or target.address.port)
        deadline = time.monotonic() + self.timeout
        with requests.Session() as session:
            session.trust_env = False
            try:
                with session.get(
                    f"http://{address}{self.path}",
                    headers=_HEADERS,
                    timeout=self.timeout,
                    allow_redirects=False,
                    stream=True,
                ) as response:
                    body = _body(response, deadline)
                    status = f"HTTP {response.status_code}"
                    if body is None:
                        return failed(f"{status}, but its body was not there in {seconds_text(self.timeout)}")
                    if 200 <= response.status_code < 400:
                        return passed(status)
                    return failed(f"{status}: {_excerpt(body)}" if body.strip() else status)
            except requests.Timeout:
                return failed(f"no answer in {seconds_text(self.timeout)}")
            except (requests.RequestException, OSError) as error:
                return failed(_reason(error))


def _body(response: "requests.Response", deadline: float) -> bytes | None:
    """The first bytes of the answer, or None when they were not there in time.

    Reads what is there (`read1`), because one `read` of many bytes waits anew for each of them: an instance that
    sends one byte a second would never run into the time-out.
    """
    from urllib3.exceptions import ReadTimeoutError

    body = bytearray()
    while len(body) < BODY_LIMIT:
        try:
            part = response.raw.read1(BODY_LIMIT - len(body))
        except ReadTimeoutError:
            return None
        if not part:
            break
        body += part
        if time.monotonic() > deadline:
            return None
    return bytes(body)


def _excerpt(body: bytes) -> str:
    """The first line of a body that is an error's explanation more often than not."""
    line = body.strip().splitlines()[0].decode("utf-8", "replace")
    return line if len(line) <= _EXCERPT_LIMIT else line[: _EXCERPT_LIMIT - 1] + "~"


def _reason(error: BaseException) -> str:
    """The innermost cause: requests wraps `connection refused` in three layers of addresses and object ids."""
    seen = {id(error)}
    while True:
        inner = next(
            (
                cause
                for cause in (error.__cause__, error.__context__, getattr(error, "reason", None), *error.args)
                if isinstance(cause, BaseException) and id(cause) not in seen
            ),
            None,
        )
        if inner is None:
            break
        seen.add(id(inner))
        error = inner
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text)[:1].lower() + str(text)[1:]
