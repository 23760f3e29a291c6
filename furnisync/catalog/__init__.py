"""`catalog.db`: what exists, where each image stands, how far the crawl has come. No network.

Functions take the connection inside the caller's transaction (see `database.Writer`).
"""
