"""Suites: their files, what they ask for, and the plan that comes of it."""
