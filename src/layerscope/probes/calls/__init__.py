"""How a Keras forward is followed: the calls of its layers and functions, on each backend."""
