"""Text into shards of tokens and batches of rows: sources, downloads, packing, loading."""
