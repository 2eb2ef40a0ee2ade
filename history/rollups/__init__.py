"""Sums by day and by month, and totals since the beginning: what a job adds to them, and how they are made anew."""
