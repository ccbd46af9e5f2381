"""Which networks can be pruned: every torchvision builder and every timm module, beside the peers."""
