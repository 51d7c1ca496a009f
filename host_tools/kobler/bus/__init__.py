"""Commands about what is on the bus: how it is read, and what its registers mean."""
