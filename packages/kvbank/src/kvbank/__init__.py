"""A sparse semantic key/value memory for chunk-by-chunk video transformers."""
