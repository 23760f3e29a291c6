"""`doctor` and `verify`: what is wrong and what to do."""
