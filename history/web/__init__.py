"""The web: what keeps a server from being used against its machine, and the pages of the questions."""
