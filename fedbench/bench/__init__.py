"""Suites, their plans, the cells, their records, and who executes them."""
