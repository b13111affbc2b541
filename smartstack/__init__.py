"""What nerve and synapse agree on: formats, the registry, configuration files, the shell of a daemon."""

__version__ = "0.1.0"
