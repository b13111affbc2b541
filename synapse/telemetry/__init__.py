"""The feed: what HAProxy says of each request, counted, kept for an hour and shown."""
