"""Widthwise beside the packages that its users know: the same network, data, budget and fine-tuning for all."""
