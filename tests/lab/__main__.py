"""Run scenarios, and say what they saw.

    python -m tests.lab [NAME ...] [--quick] [--list] [--report DIR] [--keep]
    python -m tests.lab --guarantees [--report DIR]

Needs root, for the namespaces. The second form runs nothing: it writes the table of docs/guarantees.md from the reports
of all scenarios. Exit 1 where a promise is broken, 2 where it cannot run.
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
from tests.lab.fleet import ROOT, Fleet
from tests.lab.grammar import HOSTS
from tests.lab.network import inside, left_over, make_namespace, remove_namespaces
from tests.lab.report import BEGIN, END, Result, as_json, as_text, from_json, guarantees, put_between
from tests.lab.run import Run, lacks
from tests.lab.scenario import Scenario, scenarios

GUARANTEES = Path(__file__).parents[2] / "docs" / "guarantees.md"
REPORTS = Path(__file__).parents[2] / ".lab"
_INSIDE = "SMARTSTACK_LAB"
_NEEDS = ("ip", "tc", "nsenter", "setpriv", "java", "haproxy")


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
    if options.guarantees:
        return _write_guarantees(options.report, list(known.values()))
    missing = [] if os.geteuid() == 0 else ["root, for network namespaces and mounts"]
    missing += [name for name in _NEEDS if shutil.which(name) is None]
    if missing:
        print(f"the lab cannot run: it needs {', '.join(missing)}", file=sys.stderr)
        return 2
    if _INSIDE not in os.environ:
        return _in_a_namespace()
    results = _run(chosen, options.report, options.keep)
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
    parser.add_argument("--report", type=Path, default=REPORTS, help="where NAME.md and NAME.json go; .lab")
    parser.add_argument("--guarantees", action="store_true", help="write docs/guarantees.md from the reports")
    parser.add_argument("--keep", action="store_true", help="keep the directory with all logs")
    return parser.parse_args()


def _in_a_namespace() -> int:
    """Run this program again, in a namespace of its own, and remove what it made, however it ends."""
    _remove_what_is_left()
    name = make_namespace("lab")
    prefix = name.rpartition("-")[0]
    try:
        command = inside(name, [sys.executable, "-m", "tests.lab", *sys.argv[1:]])
        return subprocess.run(command, env={**os.environ, _INSIDE: prefix}, check=False).returncode
    except KeyboardInterrupt:
        return 130
    finally:
        _remove_what_is_left()


def _remove_what_is_left() -> None:
    """Of this lab, and of labs that were killed: namespaces with what runs there, disks, directories."""
    remove_namespaces()
    for directory in left_over(Path(tempfile.gettempdir())):
        for disk in directory.glob("*/disk"):
            subprocess.run(["umount", "-l", str(disk)], capture_output=True, check=False)
        shutil.rmtree(directory, ignore_errors=True)


def _run(chosen: Sequence[Scenario], reports: Path, keep: bool) -> list[Result]:
    directory = Path(tempfile.mkdtemp(prefix=f"{os.environ[_INSIDE]}-"))
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
            _report(result, reports)
            print(as_text(result), flush=True)
    finally:
        crowd.stop()
        fleet.stop()
        if keep:
            kept = directory.rename(directory.with_name(f"kept-{directory.name}"))
            print(f"the logs are in {kept}", flush=True)
        else:
            shutil.rmtree(directory, ignore_errors=True)
    return results


def _report(result: Result, directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"{result.name}.json").write_text(json.dumps(as_json(result), indent=1) + "\n")
    (directory / f"{result.name}.md").write_text(as_text(result))


def _write_guarantees(reports: Path, known: Sequence[Scenario]) -> int:
    """Of every scenario as it is now, a report is needed in which it was run and kept, or could not be run here."""
    results, missing = [], []
    for scenario in known:
        file = reports / f"{scenario.name}.json"
        result = from_json(json.loads(file.read_text())) if file.exists() else None
        if result is None or result.promise != scenario.promise or result.wrong:
            missing.append(scenario.name)
        else:
            results.append(result)
    if missing:
        print(f"{reports} has no report in which these are kept: {', '.join(missing)}; run them", file=sys.stderr)
        return 1
    GUARANTEES.write_text(put_between(GUARANTEES.read_text(), BEGIN, END, guarantees(results, known)))
    print(f"{GUARANTEES.name} has {len(results)} rows")
    return 0


if __name__ == "__main__":
    sys.exit(main())
