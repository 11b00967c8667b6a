"""The fault campaign: every row of the fault table injected for real, one checker of invariants after every step."""
