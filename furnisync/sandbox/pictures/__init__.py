"""The images that the fake CDN serves."""
