"""Code of the versioned artifact store; run outputs live under $NANOCHAT_HOME, never here."""
