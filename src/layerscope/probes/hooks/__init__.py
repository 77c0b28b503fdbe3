"""How a forward is followed while it runs, in each framework that has hooks."""
