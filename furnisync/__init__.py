"""A complete and growing local dataset of Etsy's furniture, built within a scarce API quota."""

__version__ = "0.1.0"
