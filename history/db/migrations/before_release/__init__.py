"""The steps that brought databases from one schema to the next before there was a release; they change no more."""
