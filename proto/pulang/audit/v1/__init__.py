"""Generated code for the audit contract."""
