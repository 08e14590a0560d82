"""Studies: many rows trained, tuned and scored under one protocol, in pieces that can be stopped and resumed."""
