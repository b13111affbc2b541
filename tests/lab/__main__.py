"""Run scenarios, and say what they saw.

    python -m tests.lab [NAME ...] [--quick] [--list] [--report DIR] [--guarantees] [--keep]

Needs root, for the namespaces. Exit 1 where a promise is broken, 2 where it cannot run.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from smartstack.forms import ZooKeeperUrl
from tests.lab.crowd import Crowd
from tests.lab.fleet import HOSTS, ROOT, Fleet
from tests.lab.network import inside, make_namespace, remove_namespaces
from tests.lab.report import BEGIN, END, Result, as_json, as_text, guarantees, put_between
from tests.lab.run import Run, lacks
from tests.lab.scenario import Scenario, scenarios

GUARANTEES = Path(__file__).parents[2] / "docs" / "guarantees.md"
_INSIDE = "SMARTSTACK_LAB"
_NEEDS = ("ip", "nsenter", "setpriv", "prlimit", "java", "haproxy")


def main() -> int:
    """The exit code."""
    options = _options()
    known = {scenario.name: scenario for scenario in scenarios()}
    unknown = [name for name in options.names if name not in known]
    if unknown:
        print(f"there is no scenario {', '.join(unknown)}; --list says which there are", file=sys.stderr)
        return 2
    chosen = [known[name] for name in options.names] or [
        each for each in known.values() if each.quick or not options.quick
    ]
    if options.list:
        for each in chosen:
            print(f"{each.name:<34} {each.promise}")
        return 0
    missing = [] if os.geteuid() == 0 else ["root, for network namespaces and mounts"]
    missing += [name for name in _NEEDS if shutil.which(name) is None]
    if missing:
        print(f"the lab cannot run: it needs {', '.join(missing)}", file=sys.stderr)
        return 2
    if _INSIDE not in os.environ:
        return _in_a_namespace()
    results = _run(chosen, options.keep)
    _report(results, options.report)
    if options.guarantees:
        text = put_between(GUARANTEES.read_text(), BEGIN, END, guarantees(results, list(known.values())))
        GUARANTEES.write_text(text)
    broken = [result.name for result in results if result.wrong]
    failed = sum(result.failed for result in results)
    asked = sum(result.requests for result in results)
    print(f"{len(results) - len(broken)} of {len(results)} kept; {failed} of {asked} requests failed", flush=True)
    return 1 if broken else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.lab", description="break a fleet on purpose")
    parser.add_argument("names", nargs="*", help="scenarios; all where none is named")
    parser.add_argument("--quick", action="store_true", help="only those that CI runs")
    parser.add_argument("--list", action="store_true", help="only say which there are")
    parser.add_argument("--report", type=Path, help="a directory for lab.md and lab.json")
    parser.add_argument("--guarantees", action="store_true", help="write the table in docs/guarantees.md")
    parser.add_argument("--keep", action="store_true", help="keep the directory with all logs")
    return parser.parse_args()


def _in_a_namespace() -> int:
    """Run this program again, in a namespace of its own, and remove what it made, however it ends."""
    remove_namespaces()
    name = make_namespace("lab")
    prefix = name.rpartition("-")[0]
    try:
        command = inside(name, [sys.executable, "-m", "tests.lab", *sys.argv[1:]])
        return subprocess.run(command, env={**os.environ, _INSIDE: prefix}, check=False).returncode
    except KeyboardInterrupt:
        return 130
    finally:
        remove_namespaces()


def _run(chosen: Sequence[Scenario], keep: bool) -> list[Result]:
    directory = Path(tempfile.mkdtemp(prefix="lab-"))
    directory.chmod(0o755)
    fleet = Fleet(os.environ[_INSIDE], directory)
    hosts = ",".join(f"{server.host}:2181" for server in fleet.ensemble.servers.values())
    crowd = Crowd(fleet.network, directory, ZooKeeperUrl(hosts=hosts, root=ROOT), HOSTS)
    results = []
    try:
        fleet.start()
        for scenario in chosen:
            lack = lacks(scenario)
            if lack:
                result = Result(name=scenario.name, promise=scenario.promise, skipped=lack)
            else:
                result = Run(fleet, scenario, crowd).result()
            results.append(result)
            print(as_text(result), flush=True)
    finally:
        crowd.stop()
        fleet.stop()
        if keep:
            print(f"the logs are in {directory}", flush=True)
        else:
            shutil.rmtree(directory, ignore_errors=True)
    return results


def _report(results: Sequence[Result], directory: Path | None) -> None:
    if directory is not None:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "lab.json").write_text(json.dumps(as_json(results), indent=1))
        (directory / "lab.md").write_text("\n".join(as_text(result) for result in results))


if __name__ == "__main__":
    sys.exit(main())
