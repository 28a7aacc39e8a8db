"""`data map`: vectors to points, clusters and a page."""
