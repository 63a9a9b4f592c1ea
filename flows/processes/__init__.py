"""Processes that are started, watched and never left behind: stages and servers."""
