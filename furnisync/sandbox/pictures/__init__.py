"""The pictures that the fake CDN serves."""
