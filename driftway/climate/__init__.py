"""Climate data: PlaSim run as a program of its own, and its raw output turned into the fields of climate science."""
