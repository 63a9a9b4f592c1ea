"""Composition root: the only place that knows both Prefect and the artifact store."""
