"""The fleet: each synapse that is allowed to says in the registry where it can be looked at, and any can ask them all.

peer        who is announced, and how
membership  this host's part: the address that only answers, and its node in the registry
peers       the others, read while somebody asks
asking      one question to all of them at once
merge       their answers as one
questions   what the admin address answers: /fleet/*
"""
