"""Exploration and estimation on real images, beside rankings and searches of the same cost."""
