"""One file a stage: its config, and ``run(ctx, config) -> Summary``, a function of folders."""
