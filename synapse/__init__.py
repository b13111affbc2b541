"""synapse: who is well, anywhere? Keep a local HAProxy in step with it."""
