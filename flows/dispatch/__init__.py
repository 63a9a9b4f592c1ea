"""Where a stage is built: this process, a work pool, several nodes, the workers of a cluster."""
