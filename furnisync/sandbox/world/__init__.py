"""The world of the fake Etsy: shops, listings, reviews, and how they change."""
