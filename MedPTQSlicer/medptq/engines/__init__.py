"""Inference engines, their cached builds, and which of them this machine can use."""
