"""The audit: the mesh as a page."""
