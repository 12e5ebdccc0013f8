"""Clients, a server, the messages between them, what they cost, and the loop that drives them."""
