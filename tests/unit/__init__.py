"""Tests of one module each: tables with named rows, no server but what a test makes itself."""
