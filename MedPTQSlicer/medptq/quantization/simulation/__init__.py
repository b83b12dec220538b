"""Networks of few bits, computed in floating point to the number that integers would give."""
