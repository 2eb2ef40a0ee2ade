"""The pages, and what keeps them from being used against the exporter."""
