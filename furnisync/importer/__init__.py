"""Takes over the data of an older tool, without a call."""
