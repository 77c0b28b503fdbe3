"""Programs that a framework has written down: walked in order, and rewritten to give out values from their middle."""
