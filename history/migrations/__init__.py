"""The steps from each released schema to the next, in Alembic's form."""
