"""A complete capstone as a reader might write it: plain parameters, einsum, names of its own."""

import math

import torch
import torch.nn.functional as F
from torch import einsum, nn


def weight(*shape):
    return nn.Parameter(torch.randn(*shape) / math.sqrt(math.prod(shape[1:])))


def zeros(size):
    return nn.Parameter(torch.zeros(size))


def mix(x, matrix, bias=None):
    """A linear layer over the channels of a map."""
    y = einsum("bchw,oc->bohw", x, matrix)
    return y if bias is None else y + bias[:, None, None]


class DsConv2d(nn.Module):
    def __init__(self, dim_in, dim_out, kernel_size, padding, stride=1, bias=True):
        super().__init__()
        self.filters = weight(dim_in, 1, kernel_size, kernel_size)
        self.matrix = weight(dim_out, dim_in)
        self.shift = zeros(dim_in) if bias else None
        self.shift_out = zeros(dim_out) if bias else None
        self.how = {"stride": stride, "padding": padding, "groups": dim_in}

    def forward(self, x):
        return mix(F.conv2d(x, self.filters, self.shift, **self.how), self.matrix, self.shift_out)


class LayerNorm(nn.Module):
    def __init__(self, dim, eps=1e-5):
        super().__init__()
        self.scale, self.shift, self.eps = nn.Parameter(torch.ones(dim)), zeros(dim), eps

    def forward(self, x):
        x = x - x.mean(1, keepdim=True)
        length = torch.linalg.vector_norm(x, dim=1, keepdim=True) / math.sqrt(x.shape[1])
        return x / (length + self.eps) * self.scale[:, None, None] + self.shift[:, None, None]


class PreNorm(nn.Module):
    def __init__(self, dim, fn):
        super().__init__()
        self.before, self.layer = LayerNorm(dim), fn

    def forward(self, x):
        return self.layer(self.before(x))


class EfficientSelfAttention(nn.Module):
    def __init__(self, *, dim, heads, reduction_ratio):
        super().__init__()
        self.ask, self.give = weight(dim, dim), weight(dim, dim)
        self.find = weight(dim, dim, reduction_ratio, reduction_ratio)
        self.tell = weight(dim, dim, reduction_ratio, reduction_ratio)
        self.heads, self.ratio = heads, reduction_ratio

    def forward(self, x):
        apart = (self.heads, x.shape[1] // self.heads)
        q = mix(x, self.ask).flatten(2).unflatten(1, apart)
        k = F.conv2d(x, self.find, stride=self.ratio).flatten(2).unflatten(1, apart)
        v = F.conv2d(x, self.tell, stride=self.ratio).flatten(2).unflatten(1, apart)
        shares = (einsum("bhci,bhcj->bhij", q, k) / math.sqrt(apart[1])).softmax(-1)
        return mix(einsum("bhij,bhcj->bhci", shares, v).reshape(x.shape), self.give)


class MixFeedForward(nn.Module):
    def __init__(self, *, dim, expansion_factor):
        super().__init__()
        wide = dim * expansion_factor
        self.up, self.up_shift = weight(wide, dim), zeros(wide)
        self.look_around = DsConv2d(wide, wide, 3, padding=1)
        self.down, self.down_shift = weight(dim, wide), zeros(dim)

    def forward(self, x):
        x = self.look_around(mix(x, self.up, self.up_shift))
        return mix(F.gelu(x), self.down, self.down_shift)


class Patches(nn.Module):
    def __init__(self, dim_in, dim_out, kernel, stride, padding):
        super().__init__()
        self.filters, self.shift = weight(dim_out, dim_in, kernel, kernel), zeros(dim_out)
        self.how = {"stride": stride, "padding": padding}

    def forward(self, x):
        return F.conv2d(x, self.filters, self.shift, **self.how)


class MiT(nn.Module):
    def __init__(self, *, channels, dims, heads, ff_expansion, reduction_ratio, num_layers):
        super().__init__()
        self.shrink, self.look, self.think = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for i, dim in enumerate(dims):
            self.shrink.append(Patches(dims[i - 1] if i else channels, dim, *((3, 2, 1) if i else (7, 4, 3))))
            attentions = [
                EfficientSelfAttention(dim=dim, heads=heads[i], reduction_ratio=reduction_ratio[i])
                for _ in range(num_layers[i])
            ]
            feeders = [MixFeedForward(dim=dim, expansion_factor=ff_expansion[i]) for _ in range(num_layers[i])]
            self.look.append(nn.ModuleList([PreNorm(dim, layer) for layer in attentions]))
            self.think.append(nn.ModuleList([PreNorm(dim, layer) for layer in feeders]))

    def forward(self, x, return_layer_outputs=False):
        maps = []
        for shrink, attentions, feeders in zip(self.shrink, self.look, self.think):
            x = shrink(x)
            for attention, feeder in zip(attentions, feeders):
                x = x + attention(x)
                x = x + feeder(x)
            maps.append(x)
        return maps if return_layer_outputs else x


def four(value):
    return (value,) * 4 if isinstance(value, int) else value


class Segformer(nn.Module):
    def __init__(
        self,
        *,
        dims=(32, 64, 160, 256),
        heads=(1, 2, 5, 8),
        ff_expansion=(8, 8, 4, 4),
        reduction_ratio=(8, 4, 2, 1),
        num_layers=2,
        channels=3,
        decoder_dim=256,
        num_classes=4,
    ):
        super().__init__()
        names = ["dims", "heads", "ff_expansion", "reduction_ratio", "num_layers"]
        sizes = dict(zip(names, map(four, (dims, heads, ff_expansion, reduction_ratio, num_layers))))
        self.encoder = MiT(channels=channels, **sizes)
        self.matrices = nn.ParameterList([weight(decoder_dim, dim) for dim in sizes["dims"]])
        self.shifts = nn.ParameterList([zeros(decoder_dim) for _ in range(4)])
        self.fuse, self.fuse_shift = weight(decoder_dim, 4 * decoder_dim), zeros(decoder_dim)
        self.name_it, self.name_shift = weight(num_classes, decoder_dim), zeros(num_classes)

    def forward(self, x):
        maps = self.encoder(x, return_layer_outputs=True)
        size = maps[0].shape[-2:]
        maps = [F.interpolate(mix(y, w, b), size) for y, w, b in zip(maps, self.matrices, self.shifts)]
        return mix(mix(torch.cat(maps, 1), self.fuse, self.fuse_shift), self.name_it, self.name_shift)


@torch.no_grad()
def load_weights(model, state_dict):
    def put(name, *targets):
        value = state_dict[name]
        for target, part in zip(targets, value.chunk(len(targets))):
            target.copy_(part.reshape(target.shape))

    def put_norm(name, norm):
        put(f"{name}.g", norm.scale)
        put(f"{name}.b", norm.shift)

    def put_both(name, matrix, shift):
        put(f"{name}.weight", matrix)
        put(f"{name}.bias", shift)

    mit = model.encoder
    for i in range(4):
        put_both(f"mit.stages.{i}.1", mit.shrink[i].filters, mit.shrink[i].shift)
        for j, (attention, feeder) in enumerate(zip(mit.look[i], mit.think[i])):
            here = f"mit.stages.{i}.2.{j}"
            put_norm(f"{here}.0.norm", attention.before)
            put(f"{here}.0.fn.to_q.weight", attention.layer.ask)
            put(f"{here}.0.fn.to_kv.weight", attention.layer.find, attention.layer.tell)
            put(f"{here}.0.fn.to_out.weight", attention.layer.give)
            put_norm(f"{here}.1.norm", feeder.before)
            put_both(f"{here}.1.fn.net.0", feeder.layer.up, feeder.layer.up_shift)
            around = feeder.layer.look_around
            put_both(f"{here}.1.fn.net.1.net.0", around.filters, around.shift)
            put_both(f"{here}.1.fn.net.1.net.1", around.matrix, around.shift_out)
            put_both(f"{here}.1.fn.net.3", feeder.layer.down, feeder.layer.down_shift)
        put_both(f"to_fused.{i}.0", model.matrices[i], model.shifts[i])
    put_both("to_segmentation.0", model.fuse, model.fuse_shift)
    put_both("to_segmentation.1", model.name_it, model.name_shift)


# After chapter 9: the street. One function of the weights, without any layers.


class Street(nn.Module):
    def __init__(self, weights, config):
        super().__init__()
        self.config, self.names = config, list(weights)
        self.numbers = nn.ParameterList(
            [nn.Parameter(value.float(), requires_grad=False) for value in weights.values()]
        )

    def forward(self, x):  # noqa: PLR0915
        w, config = dict(zip(self.names, self.numbers)), self.config
        eps = config.norm_eps

        def norm(x, name, eps):
            x = F.layer_norm(x.movedim(1, -1), (x.shape[1],), w[f"{name}.weight"], w[f"{name}.bias"], eps)
            return x.movedim(-1, 1)

        def conv(x, name, **how):
            return F.conv2d(x, w[f"{name}.weight"], w.get(f"{name}.bias"), **how)

        maps = []
        for i in range(4):
            stage = f"mit.stages.{i}"
            x = conv(x, f"{stage}.embedding.project", stride=2 if i else 4, padding=1 if i else 3)
            x = norm(x, f"{stage}.embedding.norm", eps.patches)
            for j in range(config.num_layers[i]):
                here = f"{stage}.blocks.{j}"
                y, ratio = norm(x, f"{here}.attention_norm", eps.blocks), config.reduction_ratio[i]
                small = y
                if ratio > 1:
                    small = conv(y, f"{here}.attention.reduce.0", stride=ratio)
                    small = norm(small, f"{here}.attention.reduce.1", eps.reductions)
                k, v = conv(small, f"{here}.attention.to_kv").chunk(2, 1)
                apart = (config.heads[i], config.dims[i] // config.heads[i])
                q, k, v = (t.flatten(2).unflatten(1, apart) for t in (conv(y, f"{here}.attention.to_q"), k, v))
                shares = (einsum("bhci,bhcj->bhij", q, k) / math.sqrt(apart[1])).softmax(-1)
                y = einsum("bhij,bhcj->bhci", shares, v).reshape(x.shape)
                x = x + conv(y, f"{here}.attention.to_out")
                y = conv(norm(x, f"{here}.feed_forward_norm", eps.blocks), f"{here}.feed_forward.widen")
                y = F.gelu(conv(y, f"{here}.feed_forward.mix", padding=1, groups=y.shape[1]))
                x = x + conv(y, f"{here}.feed_forward.narrow")
            x = norm(x, f"{stage}.norm", eps.stages)
            maps.append(conv(x, f"decoder.project.{i}"))
        maps = [F.interpolate(y, maps[0].shape[-2:], mode="bilinear") for y in maps]
        x, d = conv(torch.cat(maps, 1), "decoder.fuse"), "decoder.norm"
        moments = w[f"{d}.running_mean"], w[f"{d}.running_var"]
        x = F.batch_norm(x, *moments, w[f"{d}.weight"], w[f"{d}.bias"])
        return conv(x.relu(), "decoder.classify")


def street_model(weights, config):
    return Street(weights, config)
