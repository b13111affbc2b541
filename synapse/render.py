"""haproxy.cfg from what is wanted, through the templates. The only home of Jinja2.

The file is a global part and one fragment for each service. A fragment is rendered twice: with the instances in their
slots, for the file, and with every slot empty, for the digest of its structure. What changes only the slots leaves
the digest as it is, and that is how synapse knows that no reload is needed. The digest of the whole stands in the file
as `description`, so that the running process says which structure it was started with.
"""

import hashlib
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

import jinja2

import haproxy_templates
from smartstack.errors import SmartStackError
from smartstack.traffic import Balance
from synapse.backend import backend, milliseconds
from synapse.frontend import frontend
from synapse.plan import Structure
from synapse.proxy import (
    BACKUP_SLOT,
    PRIMARY_SLOT,
    SPARE_HOST,
    SPARE_PORT,
    Service,
    SlotLine,
    Target,
    spare_weight,
)
from synapse.quarantine import Candidate
from synapse.settings import HAProxySettings
from synapse.switches import IN_PLACE, Live, switches
from synapse.telemetry.line import Feed
from synapse.tls import in_place

_MISTAKES = (ArithmeticError, AttributeError, LookupError, OSError, RecursionError, TypeError, ValueError)
"""What a template that Jinja takes may still do wrong: divide by nothing, add text to numbers, not be readable."""


class TemplateError(SmartStackError):
    """A template cannot be used: not found, not valid, or it uses a name that it is not given."""


class Renderer:
    """Renders with the package's templates, or a site's own where its directory has a file of the same name.

    A template is read once: to take an edit of one, make a new renderer. `keeps`: some may be a site's own, which may
    break, so that what they made is worth keeping.
    """

    def __init__(
        self,
        settings: HAProxySettings,
        socket: str,
        version: tuple[int, int],
        *,
        tls: bool = True,
        certificates: str = "",
        feed: Feed | None = None,
        live: Live = IN_PLACE,
    ) -> None:
        """For a HAProxy of this version, which was built with `tls` or not, which reads what it needs of certificates
        in that directory, and which tells `feed` of each request. `live` is what HAProxy finds in its live map."""
        directories = [str(Path(haproxy_templates.__path__[0]))]
        if settings.templates is not None:
            if not Path(settings.templates).is_dir():
                raise TemplateError(f"there is no directory {settings.templates} (haproxy.templates in synapse.yaml)")
            directories.insert(0, settings.templates)
        self._environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(directories),
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
            auto_reload=False,
            autoescape=False,
        )
        self._environment.filters["milliseconds"] = milliseconds
        # HAProxy reads quotes as a shell does; a path may have a space, a '#' or a '$'.
        self._environment.filters["quoted"] = shlex.quote
        self.keeps = settings.templates is not None
        self._settings = settings
        self._socket = socket
        self._version = version
        self._tls = tls
        self._certificates = certificates
        self._feed = feed
        self._live = live

    @property
    def measured(self) -> bool:
        """Whether HAProxy tells how long requests take."""
        return self._feed is not None

    def global_part(self, description: str) -> str:
        """The `global` and `defaults` sections. Raises `TemplateError`."""
        return self._render(
            "global.cfg.j2",
            description=description,
            socket=self._socket,
            haproxy=self._settings,
            version=self._version,
            tls=self._tls,
            lua=self._live.lua,
        )

    def check(self) -> None:
        """Raises `TemplateError` when the global part lacks what synapse knows the running HAProxy by."""
        text = self.global_part("smartstack-check")
        for line in ("description smartstack-check", f"stats socket {shlex.quote(self._socket)}"):
            if line not in text:
                what = line.rpartition(" ")[0]
                raise TemplateError(f"global.cfg.j2 must give '{what}' as the package's template does")

    def text(self, service: Service, seats: Mapping[str, Target]) -> str:
        """One service's sections; `seats` says which slot has which target. Raises `TemplateError`."""
        proxy = in_place(service.proxy, self._certificates)
        front = frontend(service.name, proxy, service.absent, self._live)
        return self._render(
            "service.cfg.j2",
            name=service.name,
            proxy=proxy,
            binds=front.binds,
            frontend=front,
            switches=switches(service.name, proxy, service.absent, self._live),
            feed=self._feed,
            backend=backend(service.name, proxy, self._version, backups=service.backups > 0, measured=service.measured),
            slots=slot_lines(service, seats),
            backups=service.backups > 0,
        )

    def digest(self, service: Service) -> str:
        """What of this service only a reload can change, as a short digest. Raises `TemplateError`."""
        return digest(self.text(service, {}))

    def structure(self, digests: Mapping[str, str], kept: str | None = None) -> Structure:
        """The whole structure that services with these digests make; with `kept`, a global part that was good once,
        instead of the template's. Raises `TemplateError`."""
        if kept is None:
            self.check()
            kept = self.global_part("")
        parts = {"": digest(kept), **{name: digests[name] for name in sorted(digests)}}
        whole = digest("\n".join(f"{name} {part}" for name, part in parts.items()))
        return Structure(description=f"smartstack-{whole}", digests=parts)

    def file(self, structure: Structure, texts: Mapping[str, str], kept: str | None = None) -> Candidate:
        """The whole of haproxy.cfg, from the services' sections; with `kept` as its global part. Raises
        `TemplateError`, also when it would lack something."""
        global_part = self.global_part(structure.description) if kept is None else kept
        file = Candidate(global_part=global_part, parts={name: texts[name] for name in sorted(texts)})
        lack = file.lacks(structure.description, shlex.quote(self._socket))
        if lack is not None:
            raise TemplateError(f"haproxy.cfg would be without {lack}: the templates must print it")
        return file

    def _render(self, template: str, **values: object) -> str:
        try:
            return self._environment.get_template(template).render(**values)
        except jinja2.TemplateSyntaxError as error:
            raise TemplateError(f"{error.filename or template}:{error.lineno}: {error.message}") from error
        except jinja2.TemplateError as error:
            raise TemplateError(f"cannot render {template}: {error.message}") from error
        except _MISTAKES as error:
            raise TemplateError(f"cannot render {template}: {type(error).__name__}: {error}") from error


def slot_names(service: Service) -> Sequence[str]:
    """`s1`, `s2`, …, and `b1`, … for the backups. The names never say which instance is behind them."""
    return [*_numbered(PRIMARY_SLOT, service.slots), *_numbered(BACKUP_SLOT, service.backups)]


def seat(service: Service, seated: Mapping[str, Target]) -> Mapping[str, Target]:
    """Each target in a slot of its side: where it is already (`seated`), the others in the first that are free."""
    seats: dict[str, Target] = {}
    targets = {(target.backup, target.host, target.port): target for target in service.targets}
    names = slot_names(service)
    for name in names:
        if name in seated:
            target = targets.pop((seated[name].backup, seated[name].host, seated[name].port), None)
            if target is not None:
                seats[name] = target
    free = {
        backup: iter([name for name in names if name not in seats and name.startswith(BACKUP_SLOT) is backup])
        for backup in (False, True)
    }
    for target in targets.values():
        seats[next(free[target.backup])] = target
    return seats


def slot_lines(service: Service, seats: Mapping[str, Target]) -> list[SlotLine]:
    """Every slot of a service, with who is in it."""
    return [_line(name, seats.get(name), service.balance) for name in slot_names(service)]


def _numbered(prefix: str, count: int) -> list[str]:
    return [f"{prefix}{number}" for number in range(1, count + 1)]


def _line(name: str, target: Target | None, balance: Balance) -> SlotLine:
    if target is None:
        spare = f"{SPARE_HOST}:{SPARE_PORT}"
        return SlotLine(
            name=name,
            address=spare,
            weight=spare_weight(balance),
            disabled=True,
            backup=name.startswith(BACKUP_SLOT),
        )
    host = f"[{target.host}]" if ":" in target.host else target.host
    return SlotLine(
        name=name, address=f"{host}:{target.port}", weight=target.weight, disabled=False, backup=target.backup
    )


def digest(text: str) -> str:
    """A text as a short word that another text does not have."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]
