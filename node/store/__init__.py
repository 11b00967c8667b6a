"""What a node remembers: audit, handles and generations, in SQLite or PostgreSQL."""
