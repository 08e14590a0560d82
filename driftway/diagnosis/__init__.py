"""Will an interpolant pay off for a system, at which step, with which noise? Asked of the data, before training."""
