"""Tests: the specification that runs."""
