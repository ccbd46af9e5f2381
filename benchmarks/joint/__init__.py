"""Joint search-and-training on real images, beside its ablations and what one would do instead."""
