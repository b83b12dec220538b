"""What the 3D Slicer module is made of; what does not need Slicer is in :mod:`medptq`.

All of it runs in Slicer's own process, so it imports only what Slicer bundles.
"""
