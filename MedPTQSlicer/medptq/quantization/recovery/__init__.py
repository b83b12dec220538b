"""Winning back what few bits lose, without labels."""
