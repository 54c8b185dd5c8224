"""Launchers: the runs of a sweep, each brought to a process of its own."""
