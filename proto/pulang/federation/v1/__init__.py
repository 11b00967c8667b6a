"""Generated code for the federation contract."""
