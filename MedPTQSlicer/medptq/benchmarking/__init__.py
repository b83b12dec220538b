"""Networks of few bits on labeled scans: which recipe costs which network how much."""
