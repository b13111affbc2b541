"""Whole daemons on real servers: what a user of a fleet would notice."""
