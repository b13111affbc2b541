"""Registries held to what they promise: one suite runs against every kind, and the faults are those of real servers."""
