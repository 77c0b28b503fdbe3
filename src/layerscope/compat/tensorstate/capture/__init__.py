"""What sits at a layer of a framework and hands on what passes."""
