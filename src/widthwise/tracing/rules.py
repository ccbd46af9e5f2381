"""The rule of each operation: how nodes flow through it.

``RULES`` maps the name of an ATen operation to its rule. A rule sees the executed :class:`Call` and the
:class:`Flow`; it sets the layers of the results and says which nodes meet (``unite``), which may not be removed
(``pin``), which are created or summed over (``producers``, ``consumers``) and what it costs (``count``).
Operations that PyTorch tags as pointwise share one rule; any other operation without a rule pins what it touches.
Rules may guess wrong only on the side of removing: whatever they leave prunable is proved afterwards.
"""

from collections.abc import Iterable

from torch import Tensor, nn

from widthwise.tracing.contractions import CONTRACTIONS
from widthwise.tracing.flow import Call, Flow, Rule
from widthwise.tracing.labels import along, place, varying
from widthwise.tracing.reasons import FIXED, LOOKED_UP, MIXED, NO_RULE, NORMALISED, REDUCED, SPACE
from widthwise.tracing.shapes import SHAPES

__all__ = ["MODULE_RULES", "RULES", "pointwise", "unknown"]


def unknown(flow: Flow, call: Call) -> None:
    """Pin whatever an operation without a rule touches."""
    for operand in call.operands():
        flow.pin_all(operand, NO_RULE)


def _ignore(flow: Flow, call: Call) -> None:
    """The result has no channels of its own."""


def _same(flow: Flow, call: Call) -> None:
    """Every result of the first operand's shape keeps its layers."""
    source = call.operands()[0]
    for result in call.results():
        if result.shape == source.shape:
            flow.put(result, *flow.layers(source))


def pointwise(flow: Flow, call: Call) -> None:
    """Positions that meet are removed together, as broadcasting pairs them."""
    for result in call.results():
        _meet(flow, result, call.operands())


def _meet(flow: Flow, out: Tensor, operands: Iterable[Tensor]) -> None:
    """Unite the layers of all operands at the shape of ``out``."""
    padded = []
    for operand in operands:
        extra = out.ndim - operand.ndim
        shape = (1,) * extra + tuple(operand.shape)
        layers = [layer.reshape((1,) * extra + tuple(layer.shape)) for layer in flow.layers(operand)]
        spread = (True,) * extra + tuple(stride == 0 for stride in operand.stride())
        padded.append((shape, spread, layers))
    merged: list[Tensor] = []
    for _, _, layers in padded:
        for layer in layers:
            merged = flow.meet(merged, layer)
    for layer in merged:
        dims = varying(layer)
        for shape, spread, layers in padded:
            met = any(along(other, d) for other in layers for d in dims)
            if not met and any(shape[d] > 1 and not spread[d] for d in dims):  # what is expanded can follow
                flow.pin(layer, FIXED)
    flow.put(out, *merged)


def _batch_norm(flow: Flow, call: Call) -> None:
    """Scale, shift and statistics go with the channels of the input."""
    x, result = call["input"], call.results()[0]
    channels = flow.axis(x, 1)
    for name in ("weight", "bias", "running_mean", "running_var"):
        tensor = call.arguments.get(name)
        if isinstance(tensor, Tensor) and tensor.numel():
            nodes = flow.axis(tensor, 0)
            flow.unite(nodes, channels)
            if name == "weight":
                flow.norms.append(nodes)
    flow.hold(channels, needed=False)  # without tensors, the module's own number of channels is all there is
    flow.put(result, place(channels, x.ndim, 1))


def _layer_norm(flow: Flow, call: Call) -> None:
    """Statistics over the last dimensions change when one of their positions goes."""
    x, result = call["input"], call.results()[0]
    first = x.ndim - len(call["normalized_shape"])
    kept = []
    for layer in flow.layers(x):
        if any(along(layer, d) for d in range(first, x.ndim)):
            flow.pin(layer, NORMALISED)
        kept.append(layer)
    flow.put(result, *kept)
    _meet(flow, result, [result, *(call[n] for n in ("weight", "bias") if call[n] is not None)])


def _group_norm(flow: Flow, call: Call) -> None:
    """Statistics mix the channels of one group, so they go together; with a single group they are pinned."""
    x, result = call["input"], call.results()[0]
    channels = flow.axis(x, 1)
    if call["group"] == 1:
        flow.pin(channels, NORMALISED)
    blocks = channels.reshape(call["group"], -1)
    flow.unite(blocks, blocks[:, :1])
    flow.hold(channels, needed=False)
    flow.hold(blocks[:, 0], needed=True)
    for name in ("weight", "bias"):
        if call[name] is not None:
            flow.unite(flow.axis(call[name], 0), channels)
    flow.put(result, place(channels, x.ndim, 1))


def _pool(flow: Flow, call: Call) -> None:
    """Space changes, channels stay; what varies along space is pinned."""
    source = call.operands()[0]
    digits = [c for c in call.name if c.isdigit()]
    space = int(digits[-1]) if digits else source.ndim - 2
    kept = []
    for layer in flow.layers(source):
        if any(d >= source.ndim - space for d in varying(layer)):
            flow.pin(layer, SPACE)
        else:
            kept.append(layer)
    for result in call.results():
        flow.put(result, *kept)


def _reduce(flow: Flow, call: Call) -> None:
    """Reduced dimensions vanish; channels reduced with one another are pinned."""
    x = call.operands()[0]
    dims = call.arguments.get("dim")
    dims = list(range(x.ndim)) if dims is None or dims == [] else [dims] if isinstance(dims, int) else dims
    gone = {d % x.ndim for d in dims} if x.ndim else set()
    kept = []
    for layer in flow.layers(x):
        inside = [d for d in varying(layer) if d in gone]
        if inside and len(inside) == len(varying(layer)):
            flow.pin(layer, REDUCED)
            continue
        for d in inside:
            layer = flow.tie(layer, d)
        kept.append(layer)
    keepdim = bool(call.arguments.get("keepdim"))
    for result in call.results():
        shapes = [[n for d, n in enumerate(k.shape) if keepdim or d not in gone] for k in kept]
        flow.put(result, *(k.reshape(s) for k, s in zip(kept, shapes, strict=True)))


def _mix(flow: Flow, call: Call) -> None:
    """Positions along ``dim`` depend on one another: channels there are pinned."""
    source = call.operands()[0]
    dims = call.arguments.get("dim", call.arguments.get("dims", -1))
    mixed = {d % source.ndim for d in ([dims] if isinstance(dims, int) else dims)} if source.ndim else set()
    kept = []
    for layer in flow.layers(source):
        if any(d in mixed for d in varying(layer)):
            flow.pin(layer, MIXED)
        kept.append(layer)
    for result in call.results():
        if result.shape == source.shape:
            flow.put(result, *kept)


def _glu(flow: Flow, call: Call) -> None:
    """The two halves of ``dim`` meet."""
    x, dim = call["self"], call["dim"] % call["self"].ndim
    half = x.shape[dim] // 2
    nodes = flow.axis(x, dim)
    flow.unite(nodes[:half], nodes[half:])
    flow.put(call.out, place(nodes[:half], x.ndim, dim))


def _prelu(flow: Flow, call: Call) -> None:
    """One slope per channel goes with its channel."""
    x, slope = call["self"], call["weight"]
    if slope.numel() > 1 and slope.ndim == 1 and x.ndim > 1:
        nodes = flow.axis(slope, 0)
        flow.unite(nodes, flow.axis(x, 1))
        flow.put(call.out, *flow.layers(x))
    else:
        pointwise(flow, call)


def _embedding(flow: Flow, call: Call) -> None:
    """Rows are looked up; the columns are channels that the embedding creates."""
    weight = call["weight"]
    flow.pin(flow.axis(weight, 0), LOOKED_UP)
    columns = flow.axis(weight, 1)
    flow.producers.append(columns)
    flow.put(call.out, place(columns, call.out.ndim, call.out.ndim - 1))


def _pixel_shuffle(flow: Flow, call: Call) -> None:
    """Each output channel takes ``r * r`` neighbouring input channels, which go together."""
    x, r = call["self"], call["upscale_factor"]
    blocks = flow.axis(x, x.ndim - 3, SPACE).reshape(-1, r * r)
    flow.unite(blocks, blocks[:, :1])
    flow.put(call.out, place(blocks[:, 0], x.ndim, x.ndim - 3))


def _pixel_unshuffle(flow: Flow, call: Call) -> None:
    """Each input channel becomes ``r * r`` output channels."""
    x, r = call["self"], call["downscale_factor"]
    nodes = flow.axis(x, x.ndim - 3, SPACE)
    flow.put(call.out, place(nodes.repeat_interleave(r * r), x.ndim, x.ndim - 3))


def _channel_shuffle(flow: Flow, call: Call) -> None:
    """Channel ``j`` of every group goes with channel ``j`` of the others."""
    x, groups = call["self"], call["groups"]
    nodes = flow.axis(x, 1).reshape(groups, -1)
    flow.unite(nodes, nodes[:1])
    flow.put(call.out, place(nodes.t().reshape(-1), x.ndim, 1))


def _random(flow: Flow, call: Call) -> None:
    """A tensor filled in place keeps its layers."""


def _table(rule: Rule, *names: str) -> dict[str, Rule]:
    return {f"aten::{name}": rule for name in names}


RULES: dict[str, Rule] = {
    "pointwise": pointwise,
    **_table(
        _ignore,
        *("empty", "zeros", "ones", "full", "arange", "rand", "randn", "linspace", "eye", "scalar_tensor"),
        *("new_empty", "new_zeros", "new_ones", "new_full", "is_same_size", "randperm", "tril", "triu"),
    ),
    **_table(
        _same,
        *(
            "alias",
            "detach",
            "detach_",
            "clone",
            "contiguous",
            "_to_copy",
            "to",
            "lift_fresh",
            "lift",
            "lift_fresh_copy",
        ),
        *("native_dropout", "dropout", "view_as_real_copy", "flip", "empty_like", "zeros_like", "ones_like"),
        *("full_like", "rand_like", "randn_like", "bernoulli", "requires_grad_"),
    ),
    **_table(_random, "bernoulli_", "zero_", "fill_", "uniform_", "normal_"),
    **_table(pointwise, "copy", "where", "masked_fill", "hardswish", "hardtanh", "silu", "mish", "gelu"),
    **_table(
        _batch_norm,
        *("native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training"),
        *("cudnn_batch_norm", "miopen_batch_norm", "_batch_norm_with_update", "_batch_norm_no_update"),
        *("batch_norm", "native_instance_norm"),
    ),
    **_table(_layer_norm, "native_layer_norm", "_fused_rms_norm"),
    **_table(_group_norm, "native_group_norm"),
    **_table(
        _pool,
        *(
            "max_pool2d_with_indices",
            "max_pool3d_with_indices",
            "max_pool2d",
            "max_pool3d",
            "mkldnn_max_pool2d",
        ),
        *("avg_pool1d", "avg_pool2d", "avg_pool3d", "_adaptive_avg_pool2d", "_adaptive_avg_pool3d"),
        *("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_max_pool2d", "adaptive_max_pool3d"),
        *("upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d", "_upsample_nearest_exact2d"),
        *("upsample_bilinear2d", "upsample_linear1d", "upsample_trilinear3d", "upsample_bicubic2d"),
        *("_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa"),
        *("reflection_pad1d", "reflection_pad2d", "reflection_pad3d"),
        *("replication_pad1d", "replication_pad2d", "replication_pad3d"),
    ),
    **_table(
        _reduce,
        *("mean", "sum", "amax", "amin", "max", "min", "prod", "var", "std", "var_mean", "std_mean"),
        *("linalg_vector_norm", "norm", "logsumexp", "any", "all", "argmax", "argmin", "aminmax"),
    ),
    **_table(
        _mix,
        "_softmax",
        "_safe_softmax",
        "_log_softmax",
        "softmax",
        "cumsum",
        "cumprod",
        "sort",
        "topk",
        "argsort",
        "roll",
    ),
    **_table(_glu, "glu"),
    **_table(_prelu, "_prelu_kernel", "prelu"),
    **_table(_embedding, "embedding"),
    **_table(_pixel_shuffle, "pixel_shuffle"),
    **_table(_pixel_unshuffle, "pixel_unshuffle"),
    **_table(_channel_shuffle, "channel_shuffle", "native_channel_shuffle"),
    **SHAPES,
    **CONTRACTIONS,
}
"""Rule per operation name; ``pointwise`` serves every operation that PyTorch tags as such. Yours go in here too."""

MODULE_RULES: dict[type[nn.Module], Rule] = {}
"""Rule per type of module, for those whose inside cannot be followed (kernels of your own, calls out of PyTorch)."""
