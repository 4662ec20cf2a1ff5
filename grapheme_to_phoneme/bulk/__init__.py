"""Word lists of any size: answered once, in order, by one process or many, and resumed exactly."""
