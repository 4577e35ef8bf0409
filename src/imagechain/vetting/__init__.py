"""Is this image of others continuously built? What says so, and whether that is enough."""
