"""One step of Algorithm 1 against the same step on materialised sub-networks, and losses on stored features."""

import copy

import pytest
import torch
from supernet_steps import step_of
from torch import Tensor, nn
from torch.nn import functional as F

from widthwise import ChannelGraph, Subnet, WidthSpace, accuracy, build_model, load_data, materialize, trace
from widthwise.errors import ConfigError
from widthwise.stages import Stages, find_stages
from widthwise.stages.alone import run_part
from widthwise.subnet import SuperNet
from widthwise.subnet.materialize import kept_positions
from widthwise.supernet.adapters import Adapters
from widthwise.supernet.features import StageLoss, stored_features
from widthwise.supernet.sampling import Sampler
from widthwise.supernet.single_path import SinglePathObjective
from widthwise.supernet.slimmable import SlimmableObjective
from widthwise.supernet.stagewise import StagewiseObjective, Teacher
from widthwise.train import TrainConfig, fit

THIRTY_ONE = tuple(0.1 + 0.03 * i for i in range(31))


class Tiny(nn.Module):
    """Two stages and a head with a hidden layer."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.a = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, 6, 3, padding=1)
        )
        self.b = nn.Sequential(nn.Conv2d(6, width, 3, 2, 1), nn.ReLU(), nn.Conv2d(width, 7, 1), nn.BatchNorm2d(7))
        self.hidden = nn.Linear(7, 9)
        self.out = nn.Linear(9, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.b(F.relu(self.a(x))))
        logits: Tensor = self.out(F.relu(self.hidden(x.mean((2, 3)))))
        return logits


def tiny(width: int = 8) -> tuple[nn.Module, ChannelGraph, Stages, Tensor]:
    torch.manual_seed(0)
    model, images = Tiny(width).eval(), torch.randn(4, 3, 8, 8)
    graph = trace(model, images[:1])
    return model, graph, find_stages(model, graph, images), images


def residual() -> tuple[nn.Module, ChannelGraph, Stages, Tensor]:
    torch.manual_seed(0)
    model, images = build_model("resnet20").eval(), torch.randn(4, 3, 16, 16)
    graph = trace(model, images[:1])
    return model, graph, find_stages(model, graph, images), images


def expected_gradients(
    model: nn.Module,
    graph: ChannelGraph,
    stages: Stages,
    adapters: Adapters,
    features: list[Tensor],
    subnets: list[Subnet],
) -> dict[str, Tensor]:
    """By hand: each stage of each sub-network as a module of its own, its gradients put back where they came from."""
    total = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for index, stage in enumerate(stages.stages):
        for subnet in subnets:
            inside = stages.inside(index, subnet)
            small = materialize(model, graph, inside)
            given = features[index]
            if stage.enters is not None:
                given = given[:, inside.kept_at(stage.enters[1])]
            found = run_part(small, stage.part, given)
            if stage.leaves is not None:
                layer = adapters.maps[index]
                columns = layer.weight[:, inside.kept_at(stage.leaves[1])]
                found = torch.einsum("bchw,oc->bohw", found, columns) + layer.bias[:, None, None]
                loss = F.mse_loss(found, features[index + 1])
            else:
                target = features[index + 1].softmax(1)
                loss = (target * (target.log() - found.log_softmax(1))).sum(1).mean()
            loss.backward()
            kept = kept_positions(graph, inside)
            for name, parameter in small.named_parameters():
                if parameter.grad is None:
                    continue
                grid = [kept.get((name, d), torch.arange(total[name].shape[d])) for d in range(total[name].ndim)]
                total[name][torch.meshgrid(*grid, indexing="ij")] += parameter.grad
    return total


@pytest.mark.parametrize("make", [tiny, residual])
def test_gradients_of_a_step_equal_those_on_materialised_sub_networks(make) -> None:  # type: ignore[no-untyped-def]
    model, graph, stages, images = make()
    model.double()
    images = images.double()
    model.train()
    objective = StagewiseObjective(SuperNet(model, graph), stages, Sampler(WidthSpace(ratios=THIRTY_ONE).of(graph)))
    objective.own.double()
    for layer in objective.own.maps:
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight)
    with torch.no_grad(), stages.features(model) as found:
        outputs = model(images)
    features = [images, *found, outputs]
    reference, by_hand = copy.deepcopy(model), copy.deepcopy(objective.own)
    expected = expected_gradients(reference, graph, stages, by_hand, features, objective.subnets(5))
    before = {name: b.clone() for name, b in model.named_buffers()}
    losses = objective.distil(features, images, 5, lambda loss: loss.backward())
    assert len(losses) == len(stages)
    for name, parameter in model.named_parameters():
        found_gradient = parameter.grad if parameter.grad is not None else torch.zeros_like(parameter)
        torch.testing.assert_close(found_gradient, expected[name], msg=name)
    for mine, theirs in zip(objective.own.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad)
    assert all(torch.equal(b, before[name]) for name, b in model.named_buffers())  # statistics are the full network's


@pytest.mark.parametrize("make", [tiny, residual])
def test_a_whole_step_equals_the_task_and_the_stages_by_hand(make) -> None:  # type: ignore[no-untyped-def]
    """Algorithm 1: the cross-entropy of the full network, then each stage of a random and the smallest sub-network."""
    model, graph, stages, images = make()
    model.double().train()
    images, labels = images.double(), torch.tensor([0, 3, 1, 2])
    sampler = Sampler(WidthSpace(ratios=THIRTY_ONE).of(graph))
    objective = StagewiseObjective(SuperNet(model, graph), stages, sampler, label_smoothing=0.1)
    objective.own.double()
    reference, by_hand = copy.deepcopy(model), copy.deepcopy(objective.own)

    ends: dict[str, Tensor] = {}
    hooks = [
        reference.get_submodule(call.path).register_forward_hook(
            lambda _, __, out, name=call.path: ends.update({name: out.detach().clone()})
        )
        for call in stages.ends
    ]
    logits = reference(images)
    for hook in hooks:
        hook.remove()
    classes = logits.shape[1]
    wanted = F.one_hot(labels, classes) * 0.9 + 0.1 / classes
    task = -(wanted * logits.log_softmax(1)).sum(1).mean()
    task.backward()
    expected = {name: p.grad.clone() for name, p in reference.named_parameters() if p.grad is not None}
    statistics = {name: b.clone() for name, b in reference.named_buffers()}
    reference.zero_grad()
    features = [images, *(ends[call.path] for call in stages.ends), logits.detach()]
    subnets = [sampler.layerwise(21), sampler.of(sampler.space.smallest)]
    for name, grad in expected_gradients(reference, graph, stages, by_hand, features, subnets).items():
        expected[name] = expected.get(name, 0) + grad

    outcome = step_of(objective, model, images, labels, seed=21)
    assert set(expected) == {name for name, _ in model.named_parameters()}
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], msg=name)
    for mine, theirs in zip(objective.own.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad)
    for name, buffer in model.named_buffers():
        torch.testing.assert_close(buffer, statistics[name], msg=name)  # of one pass, the full network's
    torch.testing.assert_close(outcome.parts["task"], task.detach())
    torch.testing.assert_close(outcome.loss, torch.stack(list(outcome.parts.values())).sum())
    torch.testing.assert_close(outcome.logits, logits.detach())


def test_the_loss_on_stored_features_does_not_hang_on_other_stages() -> None:
    model, graph, stages, images = residual()
    objective = StagewiseObjective(SuperNet(model, graph), stages, Sampler(WidthSpace(ratios=THIRTY_ONE).of(graph)))
    loss = StageLoss(objective, stored_features(objective, [images, images[:2]]))
    full = graph.full_widths
    inner = next(i for i in stages.own[1] if i not in stages.own[0] and i not in stages.own[2])
    narrow = full.clone()
    narrow[inner] = 3
    assert loss(0, narrow) == loss(0, full)
    assert loss(2, narrow) == loss(2, full)
    assert loss(1, narrow) > loss(1, full) >= 0
    assert not any(m.training for m in model.modules())


def test_the_loss_of_a_narrow_stage_is_what_the_small_module_gives() -> None:
    model, graph, stages, images = tiny()
    objective = StagewiseObjective(SuperNet(model, graph), stages, Sampler(WidthSpace().of(graph)))
    stored = stored_features(objective, [images])
    widths = torch.stack([torch.tensor(max(1, g.width // 2)) for g in graph.prunable])
    subnet = stages.inside(1, objective.sampler.of(widths))
    small = materialize(model, graph, subnet)
    for module in small.modules():
        module.training = isinstance(module, nn.BatchNorm2d)
    with torch.no_grad():
        found = run_part(small, stages.stages[1].part, stored[0].given[1])
        padded = torch.zeros_like(stored[0].targets[1])
        padded[:, stages.left(1, subnet)] = found  # adapters start as the identity
        expected = F.mse_loss(padded, stored[0].targets[1])
    found_loss = StageLoss(objective, stored, adapters="learned")(1, widths)
    assert found_loss == pytest.approx(float(expected), rel=1e-5)


def test_another_network_may_teach() -> None:
    model, graph, stages, images = tiny()
    other, _, chain, _ = tiny(width=12)
    teacher = Teacher(other, chain, stages)
    objective = StagewiseObjective(SuperNet(model, graph), stages, Sampler(WidthSpace().of(graph)), teacher=teacher)
    assert not any(p is q for p in objective.own.parameters() for q in other.parameters())
    model.train()
    with torch.no_grad(), stages.features(model) as found:
        outputs = model(images)
    features = [images, *found, outputs]
    targets = objective.targets(features, images)
    with torch.no_grad():
        torch.testing.assert_close(targets[-1], other(images))
    losses = objective.distil(features, images, 0, lambda loss: loss.backward())
    assert all(float(loss) > 0 for loss in losses)


def test_a_teacher_of_other_resolutions_is_refused() -> None:
    model, _, stages, _ = tiny()
    _, _, chain, _ = residual()  # begins with 16x16
    with pytest.raises(ConfigError, match="same resolution"):
        Teacher(model, stages, chain)


class Student(nn.Module):
    """Two stages, like a ResNet: all of it falls before the first block, and the classifier has nothing to prune."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 6, 3, padding=1))
        self.two = nn.Sequential(nn.Conv2d(6, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 7, 3, padding=1))
        self.out = nn.Linear(7, 4)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.out(F.relu(self.two(F.relu(self.one(x)))).mean((2, 3)))
        return scores


class Longer(nn.Module):
    """Stages at twice the resolution too, and a head with a hidden layer, like EfficientNet beside ResNet-50."""

    def __init__(self) -> None:
        super().__init__()
        self.front = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.ReLU(), nn.Conv2d(5, 5, 3, padding=1))
        self.one = nn.Sequential(nn.Conv2d(5, 9, 3, 2, 1), nn.ReLU(), nn.Conv2d(9, 4, 3, padding=1))
        self.two = nn.Sequential(nn.Conv2d(4, 9, 3, 2, 1), nn.ReLU(), nn.Conv2d(9, 10, 3, padding=1))
        self.head = nn.Sequential(nn.Linear(10, 6), nn.ReLU(), nn.Linear(6, 4))

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.one(F.relu(self.front(x))))
        scores: Tensor = self.head(F.relu(self.two(x)).mean((2, 3)))
        return scores


def pair() -> tuple[StagewiseObjective, Teacher, Tensor]:
    torch.manual_seed(0)
    model, other, images = Student().eval(), Longer().eval(), torch.randn(4, 3, 8, 8)
    graph = trace(model, images[:1])
    stages = find_stages(model, graph, images)
    teacher = Teacher(other, find_stages(other, trace(other, images[:1]), images), stages)
    sampler = Sampler(WidthSpace().of(graph))
    return StagewiseObjective(SuperNet(model, graph), stages, sampler, teacher=teacher), teacher, images


def test_stages_learn_from_those_of_their_resolution_in_a_teacher_that_has_more() -> None:
    objective, teacher, images = pair()
    assert [s.name for s in teacher.stages.stages] == ["front", "one", "two", "head"]
    assert objective.stages.names == ("one", "two")
    assert teacher.channels == [4, 10]
    with torch.no_grad():
        other = teacher.model
        one = other.one(F.relu(other.front(images)))
        expected = [one, other.two(F.relu(one))]
    targets = teacher.targets(images)
    for mine, theirs in zip(targets, expected, strict=True):
        torch.testing.assert_close(mine, theirs)
    for index, stage in enumerate(stored_features(objective, [images])[0].targets):
        torch.testing.assert_close(stage, expected[index])


def test_a_head_learns_the_scores_of_a_teacher_whose_classifier_is_no_stage() -> None:
    torch.manual_seed(0)
    model, other, images = Longer().eval(), Student().eval(), torch.randn(4, 3, 8, 8)
    stages = find_stages(model, trace(model, images[:1]), images, ["one", "two"])
    teacher = Teacher(other, find_stages(other, trace(other, images[:1]), images), stages)
    assert stages.names == ("one", "two", "head")
    assert teacher.channels == [6, 7, 0]
    with torch.no_grad():
        torch.testing.assert_close(teacher.targets(images)[-1], other(images))


def test_adapters_to_other_widths_hang_on_their_seed_alone() -> None:
    _, _, stages, _ = tiny()
    targets = [5, 9, 0]
    drawn = []
    for state, seed in ((1, 3), (2, 3), (2, 4)):
        torch.manual_seed(state)
        before = torch.random.get_rng_state()
        drawn.append(torch.cat([p.flatten() for p in Adapters(stages, targets, seed=seed).parameters()]))
        assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[1], drawn[2])


def test_a_checkpoint_belongs_to_its_widths_its_ranking_and_its_teacher() -> None:
    objective, teacher, _ = pair()
    network, stages, graph = objective.network, objective.stages, objective.network.graph
    found = []

    def describe(sampler: Sampler, taught: Teacher) -> None:
        ways = (
            StagewiseObjective(network, stages, sampler, teacher=taught),
            SlimmableObjective(network, sampler),
            SinglePathObjective(network, sampler),
        )
        found.append([way.describe() for way in ways])

    describe(objective.sampler, teacher)
    again, again_teacher, _ = pair()
    describe(again.sampler, again_teacher)
    assert found[0] == found[1]
    describe(Sampler(WidthSpace(ratios=(0.5, 1.0)).of(graph)), teacher)
    describe(Sampler(objective.sampler.space, torch.arange(graph.num_channels)), teacher)
    for mine, *others in zip(found[0], *found[2:], strict=True):
        assert mine not in others
        assert others[0] != others[1]
    with torch.no_grad():
        again_teacher.model.get_parameter("head.2.bias")[0] += 1e-3
    describe(objective.sampler, again_teacher)
    assert found[-1][0] != found[0][0]
    assert found[-1][1:] == found[0][1:]


def test_every_step_of_a_training_draws_another_sub_network(monkeypatch: pytest.MonkeyPatch) -> None:
    data = load_data("digits")
    model = Hidden()
    graph = trace(model, data.example())
    stages = find_stages(model.eval(), graph, data.example())
    sampler = Sampler(WidthSpace(ratios=THIRTY_ONE).of(graph))
    objective = StagewiseObjective(SuperNet(model, graph), stages, sampler)
    seen: list[list[Subnet]] = [[] for _ in stages.stages]
    stage = objective.stage

    def watched(index: int, features: Tensor, subnet: Subnet) -> Tensor:
        seen[index].append(subnet)
        return stage(index, features, subnet)

    monkeypatch.setattr(objective, "stage", watched)
    fit(model, data.train.subset(256, seed=0), TrainConfig(epochs=2, batch_size=64), objective=objective)
    widths = [tuple(graph.widths(subnet).tolist()) for subnet in seen[0]]
    assert all([tuple(graph.widths(subnet).tolist()) for subnet in other] == widths for other in seen)
    smallest = tuple(sampler.space.smallest.tolist())
    assert widths[1::2] == [smallest] * 8
    assert len(set(widths[::2])) == 8
    assert smallest not in widths[::2]


def test_draws_hang_on_seed_and_step_alone_and_cover_the_space() -> None:
    _, graph, _, _ = tiny()
    space = WidthSpace(ratios=(0.25, 0.5, 1.0)).of(graph)
    sampler = Sampler(space)
    assert sampler.layerwise(7) == Sampler(space).layerwise(7)
    widths = torch.stack([graph.widths(sampler.layerwise(step)) for step in range(60)])
    for column, choices in zip(widths.T, space.choices, strict=True):
        assert column.unique().tolist() == choices.tolist()
    assert torch.equal(graph.widths(sampler.smallest), space.smallest)
    uniform = graph.widths(sampler.uniform(1)) / graph.full_widths
    assert float(uniform.max() - uniform.min()) <= 0.5
    wide, narrow = sampler.of(space.full), sampler.smallest
    assert bool((wide.keep | ~narrow.keep).all())


class Hidden(nn.Module):
    """A last stage that returns class scores."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 1))
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(128, 32), nn.ReLU(), nn.Linear(32, 10))

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.head(self.features(x).relu())
        return scores


def test_a_head_in_a_stage_of_its_own_does_not_ruin_the_full_network() -> None:
    data = load_data("digits")
    torch.manual_seed(0)
    plainly, staged = Hidden(), Hidden()
    staged.load_state_dict(plainly.state_dict())
    graph = trace(staged, data.example())
    stages = find_stages(staged.eval(), graph, data.example())
    assert stages.names[-1] == "head"
    objective = StagewiseObjective(SuperNet(staged, graph), stages, Sampler(WidthSpace().of(graph)))
    config = TrainConfig(epochs=6, batch_size=64, lr=0.1)
    fit(plainly, data.train, config)
    fit(staged, data.train, config, objective=objective)
    assert accuracy(staged, data.val) > accuracy(plainly, data.val) - 0.05
