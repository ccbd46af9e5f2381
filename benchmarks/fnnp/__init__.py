"""FNNP on real images: what R, searches that learn and the three evaluators are worth, and what the choice gains."""
