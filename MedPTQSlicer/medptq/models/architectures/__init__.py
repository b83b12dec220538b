"""The segmentation networks that can be built by name, and loading their weights."""
