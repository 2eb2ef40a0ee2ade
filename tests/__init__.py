"""Tests of BBQ; the folder `clusters` brings up real schedulers, `data` has what real ones said."""
