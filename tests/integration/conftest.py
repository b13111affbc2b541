"""What the tests of whole daemons share."""

from tests.support.machine import any_machine, fragile_machine, machine
from tests.support.pair import any_host, fragile_host, host
from tests.support.stage import stage

__all__ = ["any_host", "any_machine", "fragile_host", "fragile_machine", "host", "machine", "stage"]
