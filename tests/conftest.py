"""Fixtures for every test: each support module that has some is named here."""

pytest_plugins = [
    "tests.support.interruptible",
    "tests.support.nameserver",
    "tests.support.no_skips",
    "tests.support.zookeeper",
    "tests.support.zookeeper_links",
    "tests.support.zookeeper_secure",
]
