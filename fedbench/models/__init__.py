"""Networks: one architecture family a file, what is known of them, and the factory."""
