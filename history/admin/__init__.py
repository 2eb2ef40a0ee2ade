"""bbq-history: what takes care of the database. It writes."""
