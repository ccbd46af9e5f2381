"""Universally slimmable training and MetaPruning: their gradients, and that they learn through the one loop."""

import copy

import torch
from supernet_steps import step_of
from torch import Tensor, nn
from torch.nn import functional as F

from widthwise import ChannelGraph, WidthSpace, build_model, load_data, materialize, trace
from widthwise.evaluate import accuracy, adaptive_bn
from widthwise.subnet import SuperNet
from widthwise.subnet.materialize import kept_positions
from widthwise.supernet import PruningNet, Sampler, SinglePathObjective, SlimmableObjective
from widthwise.train import TrainConfig, fit

SPACE = WidthSpace(ratios=(0.25, 0.5, 0.75, 1.0))


def small() -> tuple[nn.Module, ChannelGraph, Sampler, Tensor, Tensor]:
    torch.manual_seed(0)
    model = build_model("digits_net").double()
    graph = trace(model, torch.randn(1, 1, 8, 8).double())
    images, labels = torch.randn(6, 1, 8, 8).double(), torch.randint(10, (6,))
    return model.train(), graph, Sampler(SPACE.of(graph)), images, labels


def test_a_slimmable_step_adds_up_the_gradients_of_its_sub_networks() -> None:
    model, graph, sampler, images, labels = small()
    by_hand = copy.deepcopy(model)
    objective = SlimmableObjective(SuperNet(model, graph), sampler, random=2, layerwise=True)
    logits = by_hand(images)
    F.cross_entropy(logits, labels).backward()
    expected = {name: p.grad.clone() for name, p in by_hand.named_parameters() if p.grad is not None}
    for subnet in objective.subnets(11):
        net = materialize(model, graph, subnet)
        F.cross_entropy(net(images), logits.detach().softmax(1)).backward()
        kept = kept_positions(graph, subnet)
        for name, p in net.named_parameters():
            grid = [kept.get((name, d), torch.arange(n)) for d, n in enumerate(expected[name].shape)]
            assert p.grad is not None
            expected[name][torch.meshgrid(*grid, indexing="ij")] += p.grad
    step_of(objective, model, images, labels, 11)
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.grad, expected[name], msg=name)


def test_generated_weights_start_at_the_model_and_hang_on_the_widths() -> None:
    model, graph, sampler, images, _ = small()
    model.eval()
    generator = PruningNet(model, graph).double()
    full = sampler.of(graph.full_widths)
    generated = generator(full)
    own = dict(model.named_parameters())
    assert set(generated) == {n for n, p in own.items() if p.ndim > 1 and any((n, d) in graph.roles for d in (0, 1))}
    other = generator(sampler.smallest)
    assert all(not torch.equal(generated[n], other[n]) for n in generated)
    for last in (branch[-1] for branch in generator.generators):
        nn.init.zeros_(last.weight)
    for name, weight in generator(full).items():
        torch.testing.assert_close(weight, own[name].detach())
    subnet = sampler.layerwise(5)
    with torch.no_grad():
        shared = SuperNet(model, graph).subnet(subnet, tensors=generator(subnet))(images)
        torch.testing.assert_close(generator.materialize(model, subnet)(images), shared)


def test_a_step_of_meta_pruning_reaches_the_generators_of_the_kept_weights_only() -> None:
    model, graph, sampler, images, labels = small()
    generator = PruningNet(model, graph).double()
    objective = SinglePathObjective(SuperNet(model, graph), sampler, generator)
    step_of(objective, model, images, labels, 3)
    subnet = sampler.layerwise(3)
    kept = kept_positions(graph, subnet)
    names = list(generator(subnet))
    for name, branch in zip(names, generator.generators, strict=True):
        grad = branch[-1].bias.grad.reshape(dict(model.named_parameters())[name].shape)
        mask = torch.zeros_like(grad, dtype=torch.bool)
        grid = [kept.get((name, d), torch.arange(n)) for d, n in enumerate(grad.shape)]
        mask[torch.meshgrid(*grid, indexing="ij")] = True
        assert bool((grad[~mask] == 0).all())
        assert bool(grad[mask].any())
        assert dict(model.named_parameters())[name].grad is None


def test_both_train_sub_networks_through_the_one_loop() -> None:
    images = load_data("digits")
    config = TrainConfig(epochs=6, batch_size=64, lr=0.05)
    for kind in ("slimmable", "meta"):
        torch.manual_seed(0)
        model = build_model("digits_net")
        graph = trace(model, images.example())
        sampler, network = Sampler(SPACE.of(graph)), SuperNet(model, graph)
        generator = PruningNet(model, graph)
        objective: Objective = (
            SlimmableObjective(network, sampler)
            if kind == "slimmable"
            else SinglePathObjective(network, sampler, generator)
        )
        fit(model, images.train, config, objective=objective)
        subnet = sampler.uniform(1)
        net = materialize(model, graph, subnet) if kind == "slimmable" else generator.materialize(model, subnet)
        adaptive_bn(net, images.train.batches(200))
        assert accuracy(net, images.val) > 0.5, kind
