"""What comes from outside, fuzzed by coverage: `make fuzz`. The targets stand in `targets`, their seeds in `corpus`."""
