"""The report of a run: evidence read from its artifacts, what it amounts to, and the pages that say so."""
