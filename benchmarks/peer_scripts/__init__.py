"""Programs that run in the peers' environment, not in ours: they import nothing of ours."""
