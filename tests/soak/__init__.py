"""The soak: a fleet under random faults for as long as is wanted, and a watcher that knows the truth."""
