"""Stage-wise pruning on real images: cost of a step, ranking, result, division, expectation, teachers."""
