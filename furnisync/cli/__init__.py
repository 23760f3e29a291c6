"""Commands: arguments, wiring, output."""
