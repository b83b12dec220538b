"""From a scan to a label map on its own grid, through a session of any engine."""
