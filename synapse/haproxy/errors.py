"""What can go wrong with HAProxy.

HAProxyError                 it could not do what was asked; what was running keeps running
├── HAProxyMissing           the program is not there or too old; somebody must install it
├── HAProxyAway              the process or its socket does not answer
│   └── NotOursToStart       it is not running, and only its owner can start it
└── ConfigurationRefused     HAProxy refuses the file; carries its own words
"""

from smartstack.errors import SmartStackError


class HAProxyError(SmartStackError):
    """HAProxy could not do what was asked; what was running keeps running."""


class HAProxyMissing(HAProxyError):
    """There is no HAProxy program that can be used."""


class HAProxyAway(HAProxyError):
    """The HAProxy process or its socket does not answer.

    `nobody_listens`: the socket is not there or nobody is behind it; otherwise somebody is, but does not answer.
    """

    def __init__(self, message: str, *, nobody_listens: bool = False) -> None:
        self.nobody_listens = nobody_listens
        super().__init__(message)


class NotOursToStart(HAProxyAway):
    """HAProxy is not running, and it is not synapse's to start."""


class ConfigurationRefused(HAProxyError):
    """HAProxy refuses a configuration file. `words` are its alerts, one a line."""

    def __init__(self, message: str, words: str) -> None:
        self.words = words
        super().__init__(message)
