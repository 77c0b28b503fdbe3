"""What the primitives of a framework do to units, in the names of `_operations`."""
