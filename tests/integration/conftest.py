"""What the tests of whole daemons share."""

from tests.support.pair import any_host, fragile_host, host

__all__ = ["any_host", "fragile_host", "host"]
