"""Imports the data of an older tool, without a call."""
