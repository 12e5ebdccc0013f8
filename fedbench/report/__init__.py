"""Tables, figures and pages from plans and records alone; nothing here imports torch."""
