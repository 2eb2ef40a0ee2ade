"""Tests of what holds for all of the project: its floors, its linters, its documentation."""
