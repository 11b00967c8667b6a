"""The record-linkage core: pure functions over arrays; no network, no database, no clock, no logging."""
