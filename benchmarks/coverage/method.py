"""The last section of the page: what was measured how."""

from benchmarks.coverage.ours import DRAWS, FORWARDS
from benchmarks.coverage.summary import EFFECT

__all__ = ["METHOD"]

METHOD = f"""## How it is measured

- **Networks**: all that torchvision registers for classification, segmentation, detection and video, and of every
  timm module the network with the fewest parameters. Random weights, evaluation mode, batch 1, the input that timm's
  `default_cfg` names or 3 x 224 x 224 (299 for Inception v3, a list of one 3 x 320 x 320 image for detectors, 16
  frames of 112 for video, of 224 for MViT). Nothing is downloaded.
- **Weights**: a fresh network hides mistakes behind zeros. Parameters of at most one dimension become U(0.5, 1.5),
  biases U(-0.5, 0.5), constant parameters of more dimensions normal with variance 1 / fan-in, batch-norm means
  U(-0.5, 0.5) and variances U(0.5, 1.5), before anything is traced.
- **Error**: {DRAWS} sub-networks with a random width in every group and random channels, materialised and run in
  float32 beside the full network whose consumers have zero weights for the removed channels; the largest difference
  of any output, relative to the largest value of that output. A comparison counts only if the sub-network's output
  differs from the full network's by more than {EFFECT:.0e} and is not NaN or zero throughout. Detectors decide by
  thresholds, which rounding can tip, and with random weights find nothing: they are compared in float64, and with the
  numbers that go into every decision.
- **Channels**: rows of weights that can be removed, those of coupled layers once, so that all three count alike.
  Ours: per group, its width times the positions per channel in the layer that makes it (more than one for grouped
  convolutions and attention heads); auxiliary heads that only training uses are among them, because the trace looks
  at both modes and the peers at one. Torch-Pruning: the output channels of the root layer of each of its groups,
  groups that reach the output left out. FastNAS: the full width of every configurable width; each stands for the
  layers tied to it.
- **In reach**: share of the multiply-adds of layers with at least one prunable axis; share of the parameters in
  tensors with one. **Least MACs**: of the full network's, with a single channel left in every group.
- **Cost**: the cost model's multiply-adds of each of the {DRAWS} sub-networks equal those that torch's
  `FlopCounterMode` counts (halved) while it runs, parameters those of the module. The counter does not see the CPU's
  fused attention kernels; with these written out it does, and either count is accepted if all {DRAWS} agree with it.
- **Trace**: one trace, proof included, after one of a tiny network that loads what is needed. **Passes**: that time
  by the fastest of {FORWARDS} forward passes in the same process, after a first.
- **Memory**: growth of the peak resident memory during the trace by model (parameters and buffers) plus growth during
  one forward pass. Before each the kernel's high-water mark is reset to the present size, and unused memory handed
  back; the forward pass is not the first.
- **Torch-Pruning**: `BasePruner`, L1 norm, ratio 0.5, output layers ignored (found with a first graph, which its
  seconds leave out), `step()`, then a forward pass, whose output must have the shape that it had. **FastNAS**:
  `mtn.convert(model, mode=[("fastnas", config)])`, the choice nearest to half of every width selected, then a forward
  pass. It counts with its default configuration or with the divisor 1 instead of 32, whichever works and offers more
  channels.
"""
