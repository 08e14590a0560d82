"""Programs of other packages' simulators, each run in a process of its own; nothing here is imported."""
