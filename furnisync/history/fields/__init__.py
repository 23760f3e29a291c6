"""The fields of Etsy's API: which there are, which are stored, how their values become rows."""
