"""A province's node: answers other provinces, asks them, and keeps its own registry's encodings."""
