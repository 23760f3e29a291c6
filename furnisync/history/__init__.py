"""The history of shops, listings and reviews: `etsy_data.db`."""
