"""The tour: things break one after the other. Each step is seen to have happened, and no request may fail."""

import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from smartstack.demo import observe
from smartstack.demo.client import Client, request
from smartstack.demo.fleet import Fleet, console_script
from smartstack.demo.layout import ADDED, SESSION_SECONDS, Layout, Member
from smartstack.errors import SmartStackError

STEP_SECONDS = 15.0
"""How long a step may take until its effect is seen."""

COMMAND_SECONDS = 90.0
"""How long a command may take; `nerve drain --wait` has a minute itself."""

SETTLE_REQUESTS = 60
"""How many more requests to each service are looked at after each step."""

SESSION_SLACK_SECONDS = 2.0
"""How much later than its time-out ZooKeeper may end a session: it looks once in a tick of a second."""

LITTLE, MOST = 0.25, 0.8
"""Parts of its weight that an instance gets at most while it is slow, and at least when it is quick again."""

RECOVERY_SECONDS = 60.0
"""How long it may take until synapse believes that it is quick: it gets few requests to show it with."""

RATES = {"web": 80.0, "api": 60.0, ADDED: 60.0}
"""Requests a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A step that happened: in how many seconds its effect was there, and what it was."""

    seconds: float
    what: str


class Tour:
    """One tour through a fleet that runs. `tell` prints a line."""

    def __init__(self, fleet: Fleet, client: Client, tell: Callable[[str], None]) -> None:
        self._fleet = fleet
        self._layout: Layout = fleet.layout
        self._client = client
        self._tell = tell
        self._asked: list[str] = []
        self._killed_at = 0.0

    def run(self) -> bool:
        """Whether every step happened; it ends at the first that did not. Raises Interrupted."""
        for service in ("web", "api"):
            self._ask(service)
        self._settle()
        steps: list[tuple[str, Callable[[], Done]]] = [
            ("kill -9 web on host2", self._kill_instance),
            ("start it again", self._start_instance),
            (f"write services/{ADDED}.yaml", self._add_service),
            (f"break services/{ADDED}.yaml", self._break_definition),
            ("restart synapse", self._restart_synapse),
            (f"repair services/{ADDED}.yaml", self._repair_definition),
            ("kill -9 nerve on host1", self._kill_nerve),
            ("start nerve again", self._start_nerve),
            ("drain web on host3, restart it", self._drain_instance),
            ("make web on host2 slow", self._slow_instance),
            ("make it quick again", self._quick_instance),
            ("ask synapse what it saw", self._ask_synapse),
        ]
        for number, (title, act) in enumerate(steps, start=1):
            failed_before = self._client.total().failed
            label = f"{number}. {title}"
            try:
                done = act()
                self._settle()
            except SmartStackError as error:
                self._tell(f"{label:<34} DID NOT HAPPEN: {error}")
                return False
            failed = self._client.total().failed - failed_before
            self._tell(f"{label:<34} {done.seconds:6.2f} s  {done.what}" + (f"  {failed} FAILED" if failed else ""))
        return True

    def _kill_instance(self) -> Done:
        victim = self._layout.member("web", "host2")
        child = self._fleet.services[victim]
        child.kill()
        seconds = self._until(lambda: not any(self._serve([victim])), "synapse still sends requests to it")
        before = self._answers(victim)
        self._requests(["web"])
        if self._answers(victim) != before:
            raise SmartStackError("it still answers")
        return Done(seconds=seconds, what=f"pid {child.pid}: requests go to host1 and host3 only")

    def _start_instance(self) -> Done:
        member = self._layout.member("web", "host2")
        child = self._fleet.services[member]
        self._fleet.run(child)
        return Done(seconds=self._answers_again(member), what=f"pid {child.pid}: it answers again")

    def _add_service(self) -> Done:
        fleet, layout, member = self._fleet, self._layout, self._layout.added
        fleet.run(fleet.services[member])
        fleet.until(lambda: request(member.address)[1] is None, STEP_SECONDS, f"{member.name} does not answer")
        fleet.write(layout.nerve_yaml(member.host), layout.nerve_text(member.host, ["web", ADDED]))
        fleet.write(layout.service_yaml(ADDED), layout.service_text(ADDED))
        listen = layout.listen(ADDED)
        seconds = self._until(lambda: request(listen)[1] is None, f"nothing answers at {listen}")
        self._ask(ADDED)
        return Done(seconds=seconds, what=f"nerve on {member.host} announces it, http://{listen}/ answers")

    def _break_definition(self) -> Done:
        layout = self._layout
        broken = layout.service_text(ADDED).replace("listen:", "lisen:")
        self._fleet.write(layout.service_yaml(ADDED), broken)
        found: list[str] = []

        def noticed() -> bool:
            problem = observe.problem(observe.status(layout.synapse_admin), ADDED)
            found.extend([problem] if problem else [])
            return bool(found)

        seconds = self._until(noticed, "synapse does not say that the file is wrong")
        self._requests([ADDED])
        told = found[0].removeprefix(f"{layout.directory}/services/")
        return Done(seconds=seconds, what=f"{ADDED} goes on; synapse says: {told}")

    def _restart_synapse(self) -> Done:
        fleet, admin = self._fleet, self._layout.synapse_admin
        old_pid, haproxy_pid = fleet.synapse.pid, observe.haproxy_pid(observe.status(admin))
        began = time.monotonic()
        fleet.synapse.terminate()
        if haproxy_pid is None or observe.ask(admin, "/healthz") is not None:
            raise SmartStackError("synapse did not stop")
        fleet.run(fleet.synapse)
        self._until(lambda: observe.is_ready(admin), "synapse is not ready")
        seconds = time.monotonic() - began
        self._settle()
        now = observe.haproxy_pid(observe.status(admin))
        if now != haproxy_pid:
            raise SmartStackError(f"HAProxy is another: pid {now}, and was {haproxy_pid}")
        if (reloads := observe.counted(admin, "synapse_haproxy_reloads_total")) != 0:
            raise SmartStackError(f"synapse counts {reloads} reloads of HAProxy")
        return Done(
            seconds=seconds,
            what=f"pid {old_pid} is now {fleet.synapse.pid}; HAProxy is still {haproxy_pid}, 0 reloads",
        )

    def _repair_definition(self) -> Done:
        layout = self._layout
        self._fleet.write(layout.service_yaml(ADDED), layout.service_text(ADDED))

        def right_again() -> bool:
            told = observe.status(layout.synapse_admin)
            return bool(told) and observe.problem(told, ADDED) is None

        return Done(seconds=self._until(right_again, "synapse still calls it wrong"), what="the problem is gone")

    def _kill_nerve(self) -> Done:
        nerve = self._fleet.nerves["host1"]
        self._killed_at = time.monotonic()
        nerve.kill()
        if self._nodes_outlive_nerve:
            for member in self._on_host1:
                self._answers_again(member)
            self._require_all_on_host1()
            what = f"its instances stay for {SESSION_SECONDS} s and answer"
        else:
            self._until(lambda: not any(self._serve(self._on_host1)), "its instances are still there")
            what = "its instances leave with it, those on the other hosts answer"
        return Done(seconds=time.monotonic() - self._killed_at, what=f"pid {nerve.pid}: {what}")

    def _start_nerve(self) -> Done:
        nerve, admin = self._fleet.nerves["host1"], self._layout.nerve_admin("host1")
        self._fleet.run(nerve)

        def is_back() -> bool:
            if self._nodes_outlive_nerve:
                self._require_all_on_host1()
            services = {member.service for member in self._on_host1}
            registered = observe.registered(observe.status(admin), nerve.pid)
            return services <= registered and all(self._serve(self._on_host1))

        seconds = self._until(is_back, "its instances are not back")
        for member in self._on_host1:
            self._answers_again(member)
        if not self._nodes_outlive_nerve:
            return Done(seconds=seconds, what=f"pid {nerve.pid}: its instances are back and answer")

        def session_is_over() -> bool:
            self._require_all_on_host1()
            return time.monotonic() > self._killed_at + SESSION_SECONDS + SESSION_SLACK_SECONDS

        self._until(session_is_over, "the session of the killed nerve lasts")
        what = "it goes on with the same session, its instances never left"
        return Done(seconds=seconds, what=f"pid {nerve.pid}: {what}")

    def _drain_instance(self) -> Done:
        member = self._layout.member("web", "host3")
        child, began = self._fleet.services[member], time.monotonic()
        self._command("nerve", "drain", "web", "-c", self._layout.nerve_yaml("host3"), "--reason", "tour", "--wait")
        drained_in = time.monotonic() - began
        child.terminate()
        self._fleet.run(child)
        self._command("nerve", "undrain", "web", "-c", self._layout.nerve_yaml("host3"))
        self._answers_again(member)
        what = f"nerve drain said after {drained_in:.1f} s that it is safe to stop; pid {child.pid} answers again"
        return Done(seconds=time.monotonic() - began, what=what)

    def _slow_instance(self) -> Done:
        member = self._layout.member("web", "host2")
        child = self._fleet.services[member]
        child.signal(signal.SIGUSR1)
        seconds = self._until(lambda: self._share(member) <= LITTLE, "it gets as many requests as before")
        what = f"pid {child.pid}: every answer takes 50 ms more, so it gets {self._share(member):.0%} of its weight"
        return Done(seconds=seconds, what=what)

    def _quick_instance(self) -> Done:
        member = self._layout.member("web", "host2")
        child = self._fleet.services[member]
        child.signal(signal.SIGUSR1)
        seconds = self._fleet.until(
            lambda: self._share(member) >= MOST, RECOVERY_SECONDS, "it gets as few requests as while it was slow"
        )
        return Done(seconds=seconds, what=f"pid {child.pid}: it gets {self._share(member):.0%} of its weight")

    def _ask_synapse(self) -> Done:
        began = time.monotonic()
        told = observe.traffic(self._layout.synapse_admin)
        missing = [service for service in self._asked if service not in told]
        if missing:
            raise SmartStackError(f"it saw no requests to {' and '.join(missing)}")
        figures = (f"{name} {row['rate']:.0f}/s, p99 {row['p99_ms']:.0f} ms" for name, row in sorted(told.items()))
        return Done(seconds=time.monotonic() - began, what=f"synapse stat: {'; '.join(figures)}")

    def _share(self, member: Member) -> float:
        return observe.share(observe.status(self._layout.synapse_admin), member.service, str(member.address))

    def _command(self, program: str, *arguments: str) -> None:
        """Run a command as an operator does, to its end."""
        command = [console_script(program), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False)
        if done.returncode != 0:
            raise SmartStackError(f"{' '.join(arguments[:2])} ended with {done.returncode}: {done.stderr.strip()}")

    @property
    def _nodes_outlive_nerve(self) -> bool:
        return self._layout.registry == "zookeeper"

    @property
    def _on_host1(self) -> list[Member]:
        return [member for member in self._layout.members if member.host == "host1"]

    def _require_all_on_host1(self) -> None:
        for member, serves in zip(self._on_host1, self._serve(self._on_host1), strict=True):
            if not serves:
                raise SmartStackError(f"{member.name} left")

    def _serve(self, members: list[Member]) -> list[bool]:
        """Of each instance whether HAProxy sends requests to it, as synapse tells. Raises SmartStackError if it does
        not tell."""
        told = observe.status(self._layout.synapse_admin)
        if not told:
            raise SmartStackError("synapse does not answer")
        return [str(member.address) in observe.serving(told, member.service) for member in members]

    def _ask(self, service: str) -> None:
        self._client.ask(service, self._layout.listen(service), RATES[service])
        self._asked.append(service)

    def _answers(self, member: Member) -> int:
        return self._client.tally(member.service).answers.get(member.host, 0)

    def _answers_again(self, member: Member) -> float:
        before = self._answers(member)
        return self._until(lambda: self._answers(member) > before, f"{member.name} answers nobody")

    def _settle(self) -> None:
        """Let clients find what the step has broken, before the next one."""
        self._requests(self._asked)

    def _requests(self, services: Sequence[str]) -> None:
        """Let some more requests to each of these services be made."""
        goals = {service: self._client.tally(service).total + SETTLE_REQUESTS for service in services}

        def made() -> bool:
            return all(self._client.tally(service).total >= goal for service, goal in goals.items())

        self._until(made, f"the requests to {' and '.join(services)} got stuck")

    def _until(self, condition: Callable[[], bool], what: str) -> float:
        return self._fleet.until(condition, STEP_SECONDS, what)
