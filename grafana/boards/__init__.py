"""The boards: a file each, with `board()`."""
