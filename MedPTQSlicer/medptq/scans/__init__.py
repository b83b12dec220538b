"""Reading scans, their geometry, preprocessing, and patches for calibration."""
