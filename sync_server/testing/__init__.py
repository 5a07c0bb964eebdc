"""A simulator of servers, devices and everything that goes wrong between them (docs/reliability.md).

Everything runs in one process on a virtual clock; a seed replays a run exactly.
"""
