"""FNNP on real images: what R, evolution and the three evaluators are worth, and what the choice gains."""
