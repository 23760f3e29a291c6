"""Notices: what a person should know, and whom to tell."""
