"""The database: its tables, how it is opened and brought up to date, and what both kinds of it need."""


class HistoryError(Exception):
    """The history cannot be used: the message says what was tried, what was seen and what to do."""
