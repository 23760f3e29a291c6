"""What exists in the fake Etsy, and how it changes."""
