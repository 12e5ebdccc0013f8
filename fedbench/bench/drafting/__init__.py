"""A first suite for somebody's own data: what is there, what suits it, and the file."""
