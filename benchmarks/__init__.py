"""Synthetic populations, match benchmarks and the demonstration federation."""
