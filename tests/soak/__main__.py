"""Break a fleet at random for as long as is wanted, and hold it to its promises.

    python -m tests.soak [--seconds 3600] [--seed N] [--only KIND,KIND] [--list] [--report DIR]

Three hosts on loopback, no namespaces. Root is needed only to fill a disk; without it that fault is left out. Exit 1
where a promise is broken, 2 where it cannot run.
"""

import argparse
import json
import os
import secrets
import shutil
import signal
import sys
import types
from pathlib import Path

from tests.soak.faults import KINDS, Kind, draw
from tests.soak.fleet import SoakFleet
from tests.soak.report import as_json, as_text
from tests.soak.run import Soak
from tests.support.zookeeper import LocalServer

REPORTS = Path(__file__).parents[2] / ".soak"


def main() -> int:
    """The exit code."""
    options = _options()
    if options.list:
        for kind in KINDS.values():
            print(f"{kind.name:<20} {kind.weight}  {kind.place.value}: {kind.effect.value}")
        return 0
    only = [name for name in options.only.split(",") if name]
    if unknown := [name for name in only if name not in KINDS]:
        print(f"there is no fault {', '.join(unknown)}; --list says which there are", file=sys.stderr)
        return 2
    if not LocalServer.possible() or shutil.which("haproxy") is None:
        print("the soak cannot run: it needs haproxy, Java and ZooKeeper's jars", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, _end)
    kinds = [KINDS[name] for name in only] if only else list(KINDS.values())
    possible = [kind for kind in kinds if os.geteuid() == 0 or not kind.needs_root]
    for kind in kinds:
        if kind not in possible:
            print(f"{kind.name} is left out: it needs root")
    report = _soak(options.seconds, options.seed, possible, only)
    options.report.mkdir(parents=True, exist_ok=True)
    (options.report / "soak.json").write_text(json.dumps(report, indent=1) + "\n")
    (options.report / "soak.md").write_text(as_text(report))
    print(as_text(report), flush=True)
    return 1 if report["violations"] else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description="break a fleet at random")
    parser.add_argument("--seconds", type=float, default=3600.0, help="how long faults are done; 3600")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="what is drawn; by chance")
    parser.add_argument("--only", default="", help="kinds of faults, with commas between; all")
    parser.add_argument("--list", action="store_true", help="only say which kinds there are")
    parser.add_argument("--report", type=Path, default=REPORTS, help="where soak.md and soak.json go; .soak")
    return parser.parse_args()


def _soak(seconds: float, seed: int, kinds: list[Kind], only: list[str]) -> dict[str, object]:
    plan = draw(seed, seconds, kinds)
    print(f"seed {seed}: {len(plan)} faults in {seconds:g} s", flush=True)
    zookeeper = LocalServer()
    fleet: SoakFleet | None = None
    try:
        zookeeper.start()
        fleet = SoakFleet(zookeeper)
        fleet.start()
        outcome = Soak(fleet, plan, seconds, tell=_tell).run()
    finally:
        if fleet is not None:
            fleet.close()
        zookeeper.dispose()
    return {"asked": seconds, **as_json(outcome, seed=seed, only=only)}


def _tell(words: str) -> None:
    print(words, flush=True)


def _end(number: int, frame: types.FrameType | None) -> None:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
