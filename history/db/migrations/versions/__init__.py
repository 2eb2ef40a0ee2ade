"""The steps since the first release, a file each, in order of their numbers."""
