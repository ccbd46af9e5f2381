"""Steps over tokens: attention in the ways it is written, mixers, recurrent layers, embeddings, products."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from random_networks.step import Maker, Run, Site, Step, divisor, free, maps, pick, tokens

__all__ = ["TOKENS"]


def _linear_last(site: Site, a: int, b: int) -> Step:
    """ConvNeXt's way: norm and linear layers over channels that lie last, a layer scale, a shortcut."""
    c, out = site.channels, 4 + a % 4
    norm = nn.LayerNorm(c) if b % 2 else nn.Identity()

    def run(s: Step, x: Tensor, e: list[Tensor]) -> Tensor:
        y = s.project(F.gelu(s.expand(s.norm(x.permute(0, 2, 3, 1)))))
        return x + (y * s.gamma).permute(0, 3, 1, 2) if b % 3 == 0 else y.permute(0, 3, 1, 2)

    out = c if b % 3 == 0 else out
    return Step(run, norm=norm, expand=nn.Linear(c, 6), project=nn.Linear(6, out), gamma=free(out))


class _Attention(nn.Module):
    """Multi-head self-attention as timm writes it; ``kind`` chooses among the usual ways to say it."""

    def __init__(self, dim: int, num_heads: int, head_dim: int, kind: int) -> None:
        super().__init__()
        self.num_heads, self.head_dim, self.kind = num_heads, head_dim, kind
        self.scale = head_dim**-0.5
        inner = num_heads * head_dim
        self.qkv = nn.Linear(dim, 3 * inner, bias=kind % 2 == 0)
        self.q_norm = nn.LayerNorm(head_dim) if kind == 3 else nn.Identity()
        self.proj = nn.Linear(inner, dim)

    def _heads(self, x: Tensor) -> tuple[Tensor, ...]:
        n, length, _ = x.shape
        qkv = self.qkv(x)
        if self.kind % 3 == 0:
            return qkv.reshape(n, length, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        if self.kind % 3 == 1:
            return tuple(t.view(n, length, -1, self.head_dim).transpose(1, 2) for t in qkv.chunk(3, dim=-1))
        return tuple(
            t.view(n, length, self.num_heads, self.head_dim).permute(0, 2, 1, 3)
            for t in qkv.split(self.num_heads * self.head_dim, dim=-1)
        )

    def forward(self, x: Tensor) -> Tensor:
        n, length, _ = x.shape
        q, k, v = self._heads(x)
        if self.kind >= 6:
            x = F.scaled_dot_product_attention(q, k, v)
        elif self.kind == 5:
            x = torch.einsum("bhij,bhjd->bhid", (torch.einsum("bhid,bhjd->bhij", q, k) * self.scale).softmax(-1), v)
        else:
            x = (self.q_norm(q) * self.scale @ k.transpose(-2, -1)).softmax(dim=-1) @ v
        x = x.transpose(1, 2).reshape(n, length, self.num_heads * self.head_dim if self.kind == 4 else -1)
        return self.proj(x)


def _attention(site: Site, a: int, b: int) -> Step:
    c = site.channels
    inner = _Attention(c, 2 + a % 2, 2 + b % 3, (a + 3 * b) % 9)
    norm = nn.LayerNorm(c) if b % 2 else nn.Identity()

    def run(s: Step, x: Tensor, e: list[Tensor]) -> Tensor:
        t = tokens(x)
        return maps(t + s.attention(s.norm(t)), x)

    return Step(run, attention=inner, norm=norm)


def _window_attention(site: Site, a: int, b: int) -> Step:
    """Swin: windows shifted by a roll, and a bias per head and pair of positions."""
    c, (h, w) = site.channels, site.space
    window, heads = 2, 2
    if h % window or w % window:
        return _attention(site, a, b)

    def run(s: Step, x: Tensor, e: list[Tensor]) -> Tensor:
        y = torch.roll(x.permute(0, 2, 3, 1), (-1, -1), (1, 2)) if a % 2 else x.permute(0, 2, 3, 1)
        n = x.shape[0]
        y = y.view(n, h // window, window, w // window, window, -1).transpose(2, 3).reshape(-1, window**2, y.shape[-1])
        q, k, v = s.qkv(y).reshape(y.shape[0], window**2, 3, s.num_heads, -1).permute(2, 0, 3, 1, 4)
        scores = (q * s.scale) @ k.transpose(-2, -1) + s.table[s.index.view(-1)].view(4, 4, -1).permute(2, 0, 1)[None]
        y = s.proj((scores.softmax(-1) @ v).transpose(1, 2).reshape(y.shape[0], window**2, -1))
        y = y.view(n, h // window, w // window, window, window, -1).transpose(2, 3).reshape(n, h, w, -1)
        return x + y.permute(0, 3, 1, 2)

    return Step(
        run,
        num_heads=heads,
        scale=0.5,
        qkv=nn.Linear(c, 3 * heads * (2 + b % 2)),
        proj=nn.Linear(heads * (2 + b % 2), c),
        table=free(9, heads),
        index=torch.randint(9, (4, 4)),
    )


def _conv_attention(site: Site, a: int, b: int) -> Step:
    """LeViT: keys narrower than values, cut apart by sizes held in attributes; convolutions as projections."""
    c = site.channels
    heads, key, value = 2, 2 + a % 2, 3 + b % 2

    def run(s: Step, x: Tensor, e: list[Tensor]) -> Tensor:
        n, _, h, w = x.shape
        q, k, v = s.qkv(x).view(n, s.num_heads, -1, h * w).split([s.key_dim, s.key_dim, s.value_dim], dim=2)
        weights = (q.transpose(-2, -1) @ k * s.scale + s.bias).softmax(dim=-1)
        y = (v @ weights.transpose(-2, -1)).reshape(n, -1, h, w)
        return x + s.proj(F.hardswish(y))

    return Step(
        run,
        num_heads=heads,
        key_dim=key,
        value_dim=value,
        scale=key**-0.5,
        qkv=nn.Conv2d(c, heads * (2 * key + value), 1),
        bias=free(heads, site.area, site.area),
        proj=nn.Conv2d(heads * value, c, 1),
    )


def _channel_attention(site: Site, a: int, b: int) -> Step:
    """XCiT (attention between channels) and linear attention (EfficientViT)."""
    c, heads = site.channels, 2

    def cross_covariance(s: Step, t: Tensor) -> Tensor:
        n, length, _ = t.shape
        q, k, v = s.qkv(t).reshape(n, length, 3, s.num_heads, -1).permute(2, 0, 3, 4, 1).unbind(0)
        q, k = F.normalize(q, dim=-1) * s.temperature, F.normalize(k, dim=-1)
        return ((q @ k.transpose(-2, -1)).softmax(-1) @ v).permute(0, 3, 1, 2).reshape(n, length, -1)

    def linear(s: Step, t: Tensor) -> Tensor:
        n, length, _ = t.shape
        q, k, v = s.qkv(t).reshape(n, length, s.num_heads, -1).transpose(1, 2).chunk(3, -1)
        q, k = F.relu(q), F.relu(k)
        y = q @ (k.transpose(-2, -1) @ F.pad(v, (0, 1), value=1.0))
        return (y[..., :-1] / (y[..., -1:] + 1)).transpose(1, 2).reshape(n, length, -1)

    kind = pick((cross_covariance, linear), a)
    inner = heads * (2 + b % 2)
    parts = {"qkv": nn.Linear(c, 3 * inner), "proj": nn.Linear(inner, c), "temperature": free(heads, 1, 1)}
    return Step(lambda s, x, e: maps(s.proj(kind(s, tokens(x))), x) + x, num_heads=heads, **parts)


def _torch_attention(site: Site, a: int, b: int) -> Step:
    """``nn.MultiheadAttention`` and PyTorch's own encoder layer; queries from a pool of their own for some."""
    c = site.channels
    heads = divisor(c, a)

    def attend(s: Step, x: Tensor, e: list[Tensor]) -> Tensor:
        t = s.norm(tokens(x))
        return maps(tokens(x) + s.attention(t, t, t, need_weights=b % 2 == 0)[0], x)

    def pooled(s: Step, x: Tensor, e: list[Tensor]) -> Tensor:
        t = tokens(x).transpose(0, 1)
        y = s.second(t.mean(0, keepdim=True), t, t, need_weights=False)[0]
        return x * torch.sigmoid(y.permute(1, 2, 0)[..., None])

    kinds: tuple[Run, ...] = (attend, pooled, lambda s, x, e: maps(s.layer(tokens(x)), x))
    return Step(
        pick(kinds, a),
        norm=nn.LayerNorm(c) if b % 3 else nn.Identity(),
        attention=nn.MultiheadAttention(c, heads, batch_first=True),
        second=nn.MultiheadAttention(c, heads, bias=False),
        layer=nn.TransformerEncoderLayer(c, heads, 6, batch_first=True, norm_first=b % 2 == 0),
    )


def _mixer(site: Site, a: int, b: int) -> Step:
    """MLP-Mixer and gMLP: linear layers over tokens, and a gate out of half the channels."""
    c, area, hidden = site.channels, site.area, 3 + a % 3

    def mixer(s: Step, t: Tensor) -> Tensor:
        return t + s.wide(F.gelu(s.tall(t.transpose(1, 2)))).transpose(1, 2)

    def gated(s: Step, t: Tensor) -> Tensor:
        u, v = F.gelu(s.enter(t)).chunk(2, dim=-1)
        v = s.spatial(s.norm(v).transpose(-1, -2)) if b % 2 else s.spatial(v.transpose(-1, -2))
        return t + s.leave(u * v.transpose(-1, -2))

    def swish_gated(s: Step, t: Tensor) -> Tensor:
        gate, value = s.enter(t).split([hidden, hidden], -1) if b % 2 else s.enter(t).tensor_split(2, -1)
        return s.leave(F.silu(gate) * value)

    kind = pick((mixer, gated, swish_gated), a + b)
    return Step(
        lambda s, x, e: maps(kind(s, tokens(x)), x),
        tall=nn.Linear(area, 4),
        wide=nn.Linear(4, area),
        enter=nn.Linear(c, 2 * hidden),
        norm=nn.LayerNorm(hidden),
        spatial=nn.Linear(area, area),
        leave=nn.Linear(hidden, c),
    )


def _recurrent(site: Site, a: int, b: int) -> Step:
    """Recurrent layers along rows (Sequencer), or over a whole map, packed or not; a linear layer reads the states."""
    c, hidden = site.channels, 3
    both = b % 2 == 1
    kind = pick((nn.GRU, nn.LSTM, nn.RNN), a)

    def run(s: Step, x: Tensor, e: list[Tensor]) -> Tensor:
        rows = x.permute(0, 2, 3, 1)
        sequences = rows.reshape(-1, rows.shape[2], rows.shape[3]) if b % 3 else rows.flatten(1, 2)
        if a % 4 == 3:
            packed = pack_padded_sequence(sequences, [sequences.shape[1]] * len(sequences), batch_first=True)
            y, _ = pad_packed_sequence(s.rnn(packed)[0], batch_first=True)
        else:
            y, _ = s.rnn(sequences)
        return s.out(y).view(*rows.shape[:3], -1).permute(0, 3, 1, 2)

    layer = kind(c, hidden, batch_first=True, bidirectional=both, num_layers=1 + (b % 4 == 2))
    return Step(run, rnn=layer, out=nn.Linear(hidden * (1 + both), 4 + a % 3))


def _embedded(site: Site, a: int, b: int) -> Step:
    """Positions: a free parameter, a table, one per axis; a class token before them all."""
    c, (h, w) = site.channels, site.space

    def class_token(s: Step, x: Tensor, e: list[Tensor]) -> Tensor:
        t = torch.cat([s.cls.expand(x.shape[0], -1, -1), tokens(x)], dim=1) + s.position
        return maps(t[:, 1:] * torch.sigmoid(t[:, :1]), x)

    def axes(s: Step, x: Tensor, e: list[Tensor]) -> Tensor:
        both = s.rows.weight[:, None] + s.columns(torch.arange(w))[None]
        return x + both.permute(2, 0, 1)

    kinds: tuple[Run, ...] = (
        class_token,
        lambda s, x, e: x + maps(s.table(torch.arange(h * w))[None], x[:1]),
        axes,
        lambda s, x, e: x + s.table(x.mean(1).flatten(1).argmax(1)).view(x.shape[0], -1, 1, 1),
        lambda s, x, e: maps(tokens(x) + s.position[:, 1:], x),
    )
    tables = {"table": nn.Embedding(h * w, c), "rows": nn.Embedding(h, c), "columns": nn.Embedding(w, c)}
    return Step(pick(kinds, a), cls=free(1, 1, c), position=free(1, h * w + 1, c), **tables)


def _products(site: Site, a: int, b: int) -> Step:
    """Matrix products with weights and between activations, as einsum, matmul, bmm, baddbmm, bilinear."""
    c = site.channels
    flat: tuple[Run, ...] = (
        lambda s, x, e: torch.einsum("nchw,oc->nohw", x, s.weight),
        lambda s, x, e: torch.einsum("nchw,c->nchw", x, s.gain),
        lambda s, x, e: (s.weight @ x.flatten(2)).unflatten(2, x.shape[2:]),
        lambda s, x, e: torch.bmm(s.weight.expand(x.shape[0], -1, -1), x.flatten(2)).view(x.shape[0], -1, *x.shape[2:]),
        lambda s, x, e: maps(torch.baddbmm(s.bias, tokens(x), s.weight.t().expand(x.shape[0], -1, -1)), x),
        lambda s, x, e: (
            (tokens(x).reshape(-1, x.shape[1]) @ s.weight.t()).view(x.shape[0], *x.shape[2:], -1).movedim(3, 1)
        ),
        lambda s, x, e: maps(
            torch.addmm(s.bias, tokens(x).flatten(0, 1), s.weight.t()).view(x.shape[0], -1, s.weight.shape[0]), x
        ),
        lambda s, x, e: torch.einsum("nchw,ncxy->nhwxy", x, x).mean((3, 4))[:, None] * x,
        lambda s, x, e: (
            (x.flatten(2) @ x.flatten(2).transpose(1, 2)).softmax(-1)
            @ x.flatten(2).mean(2)[..., None]
            * x.flatten(2).mean(2)[..., None]
        ),
        lambda s, x, e: F.bilinear(x.movedim(1, -1).contiguous(), x.movedim(1, -1).contiguous(), s.square).movedim(
            -1, 1
        ),
        lambda s, x, e: torch.tensordot(x, s.weight, dims=([1], [1])).movedim(3, 1),
        lambda s, x, e: torch.matmul(x.transpose(1, 3), s.weight.t()).transpose(1, 3) + s.bias[:, None, None],
    )
    vectors: tuple[Run, ...] = (
        lambda s, x, e: x + (x.movedim(1, -1) @ s.gain)[:, None],
        lambda s, x, e: (s.weight @ x.mean((0, 2, 3)))[None, :, None, None].expand(x.shape[0], -1, *x.shape[2:]),
        lambda s, x, e: x * torch.addmv(s.bias, s.weight, x.mean((0, 2, 3))).sum().tanh(),
        lambda s, x, e: x * torch.dot(x.mean((0, 2, 3)), s.gain).sigmoid(),
        lambda s, x, e: x * torch.dot(s.bias, s.weight @ s.gain),
        lambda s, x, e: x * (x.flatten(2)[0] @ x.flatten(2)[0].mean(0))[:, None, None].tanh(),
        lambda s, x, e: torch.addmv(s.bias, s.weight, x.mean((0, 2, 3)))[:, None, None].expand(
            x.shape[0], -1, *x.shape[2:]
        ),
    )
    kind = pick(vectors if b % 4 == 1 else flat, a)

    def run(s: Step, x: Tensor, e: list[Tensor]) -> Tensor:
        y = kind(s, x, e)
        return y if y.ndim == 4 else x * y[..., None]

    out = 4 + b % 3
    weight, square = nn.Parameter(torch.randn(out, c)), nn.Parameter(torch.randn(3, c, c))
    return Step(run, weight=weight, square=square, bias=free(out), gain=free(c))


def _rotary(site: Site, a: int, b: int) -> Step:
    """Rotary positions: pairs of channels turned by a fixed angle per token."""
    c = site.channels
    if c % 2:
        return Step(lambda s, x, e: x * s.angle.cos(), angle=torch.rand(site.space))

    def run(s: Step, x: Tensor, e: list[Tensor]) -> Tensor:
        t = tokens(x)
        if b % 2:
            turned = torch.stack([-t[..., 1::2], t[..., ::2]], -1).reshape(t.shape)
        else:
            first, second = t.chunk(2, -1)
            turned = torch.cat([-second, first], -1)
        return maps(t * s.angle.cos() + turned * s.angle.sin(), x)

    return Step(run, angle=torch.rand(site.area, 1 if a % 2 else c))


TOKENS: dict[str, Maker] = {
    "linear_last": _linear_last,
    "attention": _attention,
    "window_attention": _window_attention,
    "conv_attention": _conv_attention,
    "channel_attention": _channel_attention,
    "torch_attention": _torch_attention,
    "mixer": _mixer,
    "recurrent": _recurrent,
    "embedded": _embedded,
    "products": _products,
    "rotary": _rotary,
}
