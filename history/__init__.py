"""The memory of BBQ: what was recorded of every job, worker and queue, and the questions asked of it."""

__version__ = "0.1.0"
