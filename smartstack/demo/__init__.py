"""`smartstack demo`: a fleet on one machine, in which a newcomer can break things.

It knows the two daemons as an operator does: by their commands, their files and what they answer on HTTP.
"""
