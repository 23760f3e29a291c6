"""Finds listings: passes over the crawl plan, paging, price splits, incremental looks, batches."""
