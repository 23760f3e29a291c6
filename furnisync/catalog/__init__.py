"""`catalog.db`: what exists, the state of each image, the progress of the crawl. No network.

Functions take the connection inside the caller's transaction (see `sqlite.Writer`).
"""
