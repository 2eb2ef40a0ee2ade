"""Answers as a table for people (`table`), or as JSON or CSV for programs (`machine`)."""

FORMATS = ("table", "json", "csv")
