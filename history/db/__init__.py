"""The database: its tables, how it is opened and brought up to date, and what both kinds of it need."""
