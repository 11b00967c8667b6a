"""How a node's database got to its present schema version: an Alembic environment, shipped with the package."""
