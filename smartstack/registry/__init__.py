"""Registries: where nerve writes who is well and synapse reads it. One sub-package or module for each kind."""
