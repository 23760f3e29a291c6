"""Commands: arguments in, wiring, words out."""
