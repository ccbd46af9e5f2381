"""The rule of each operation: how nodes flow through it.

``RULES`` maps the name of an ATen operation to its rule. A rule sees the executed :class:`Call` and the
:class:`Flow`; it sets the layers of the results and says which nodes meet (``unite``), which may not be removed
(``pin``), which are created or summed over (``producers``, ``consumers``) and what it costs (``count``).
Operations that PyTorch tags as pointwise share one rule; any other operation without a rule pins what it touches.
Rules may guess wrong only on the side of removing: whatever they leave prunable is proved afterwards.
"""

from torch import Tensor, nn
from torch.nn.modules.instancenorm import _InstanceNorm

from widthwise.tracing.follow import Call, Flow, Rule
from widthwise.tracing.follow.labels import along, place, varying
from widthwise.tracing.follow.reasons import MIXED, NO_RULE, NORMALISED, REDUCED, WHOLE_WEIGHT
from widthwise.tracing.rules.contractions import CONTRACTIONS
from widthwise.tracing.rules.indexing import INDEXING
from widthwise.tracing.rules.meeting import meet, pointwise, side
from widthwise.tracing.rules.shapes import SHAPES
from widthwise.tracing.rules.spatial import SPATIAL

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
    if isinstance(flow.running, _InstanceNorm):  # runs as batch norm over the channels of all examples
        one = channels[: len(channels.unique())]
        if channels.equal(one.repeat(len(channels) // len(one))):
            flow.hold(one, needed=True)  # it warns of another number
    else:
        flow.hold(channels, needed=False)  # without tensors, the module's own number of channels is all there is
    flow.put(result, *_beside(flow, x), place(channels, x.ndim, 1))


def _beside(flow: Flow, tensor: Tensor) -> list[Tensor]:
    """The layers along the first dimension alone: channels that share it with the examples."""
    return [layer for layer in flow.layers(tensor) if varying(layer) == (0,)]


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
    scaled = [result, *(call[n] for n in ("weight", "bias") if call[n] is not None)]
    flow.put(result, *meet(flow, result.ndim, [side(flow, t) for t in scaled]))


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
    flow.put(result, *_beside(flow, x), place(channels, x.ndim, 1))


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
    dims = [dims] if isinstance(dims, int) else dims or range(source.ndim)
    mixed = {d % source.ndim for d in dims} if source.ndim else set()
    for layer in flow.layers(source):
        if any(along(layer, d) for d in mixed):
            flow.pin(layer, MIXED)
    for result in call.results():
        cut = [d for d in range(source.ndim) if result.shape[d] != source.shape[d]]
        flow.put(result, *(layer for layer in flow.layers(source) if not any(along(layer, d) for d in cut)))


def _renorm(flow: Flow, call: Call) -> None:
    """Each position along ``dim`` is scaled by a norm over all other dimensions."""
    x = call["self"]
    for layer in flow.layers(x):
        if varying(layer) != (call["dim"] % x.ndim,):
            flow.pin(layer, NORMALISED)
    flow.put(call.out, *flow.layers(x))


def _weight_norm(flow: Flow, call: Call) -> None:
    """The norm of a filter changes when one of its inputs goes: the small network would have other weights."""
    for operand in call.operands():
        flow.pin_all(operand, WHOLE_WEIGHT)


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
        *("new_empty", "new_zeros", "new_ones", "new_full", "is_same_size", "randperm"),
    ),
    **_table(
        _same,
        *("alias", "detach", "clone", "_to_copy", "lift", "lift_fresh", "lift_fresh_copy", "native_dropout"),
        *("empty_like", "zeros_like", "ones_like", "full_like", "rand_like", "randn_like", "bernoulli"),
        *("_conj", "log_sigmoid_forward"),
    ),
    **_table(_random, "bernoulli_", "zero_", "fill_", "uniform_", "normal_"),
    **_table(pointwise, "copy", "where", "masked_fill", "hardswish", "hardtanh", "silu", "mish", "gelu"),
    **_table(pointwise, "complex", "polar", "rrelu_with_noise"),
    **_table(
        _batch_norm,
        *("native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training"),
        *("cudnn_batch_norm", "miopen_batch_norm", "_batch_norm_with_update", "_batch_norm_no_update"),
    ),
    **_table(_layer_norm, "native_layer_norm", "_fused_rms_norm"),
    **_table(_group_norm, "native_group_norm"),
    **_table(
        _reduce,
        *("mean", "sum", "nansum", "amax", "amin", "max", "min", "prod", "var", "std", "var_mean", "std_mean"),
        *("linalg_vector_norm", "norm", "logsumexp", "any", "all", "argmax", "argmin", "aminmax"),
        *("median", "nanmedian", "kthvalue", "mode", "count_nonzero"),
    ),
    **_table(
        _mix,
        *("_softmax", "_safe_softmax", "_log_softmax", "cumsum", "cumprod", "cummax", "cummin", "logcumsumexp"),
        *("sort", "topk", "roll", "_fft_r2c", "_fft_c2r", "_fft_c2c"),
    ),
    **_table(_renorm, "renorm"),
    **_table(_weight_norm, "_weight_norm_interface"),
    **_table(_glu, "glu"),
    **_table(_prelu, "_prelu_kernel"),
    **_table(_channel_shuffle, "channel_shuffle", "native_channel_shuffle"),
    **SHAPES,
    **SPATIAL,
    **INDEXING,
    **CONTRACTIONS,
}
"""Rule per operation name; ``pointwise`` serves every operation that PyTorch tags as such. Yours go in here too."""

MODULE_RULES: dict[type[nn.Module], Rule] = {}
"""Rule per type of module, for those whose inside cannot be followed (kernels of your own, calls out of PyTorch)."""
