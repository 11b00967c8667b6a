"""Generated code for the exchange contract."""
