"""Who gets how much: weights by latency, and the circuit breaker."""
