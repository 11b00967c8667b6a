"""Generated code for the contract between provinces."""
