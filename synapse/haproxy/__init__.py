"""The one place that talks to HAProxy: its program, its process, its runtime socket."""
