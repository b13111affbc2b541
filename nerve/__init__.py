"""nerve: is the service on this host well? Keep exactly that truth in the registry."""
