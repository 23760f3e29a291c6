"""The HTTP side of the fake Etsy: API, CDN, limits, faults, control."""
