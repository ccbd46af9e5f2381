"""The papers' recipes: their settings, and that each runs, in short, on a tree of images made here."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from jsonargparse import ArgumentParser
from PIL import Image

from typecheck import annotations
from widthwise import Budget
from widthwise.cli import main
from widthwise.commands.pruning import prune
from widthwise.data import DataConfig
from widthwise.methods import Exploration, Joint, Method, Stagewise
from widthwise.recipes import RECIPES, Recipe
from widthwise.search import EvolutionSettings
from widthwise.train import TrainConfig


def tree(root: Path, size: int, classes: int = 2, images: int = 12) -> Path:
    """An image folder like ImageNet's: train/ and test/, a folder for each class."""
    generator = torch.Generator().manual_seed(0)
    for part, count in (("train", images), ("test", 4)):
        for label in range(classes):
            folder = root / part / f"class{label}"
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = torch.randint(0, 256, (size, size, 3), generator=generator, dtype=torch.uint8)
                pixels[..., label] //= 4
                Image.fromarray(pixels.numpy()).save(folder / f"{number}.png")
    return root


LITTLE = {"epochs": 1, "max_steps": 2, "batch_size": 8}
"""Two steps of each training."""


FEW = EvolutionSettings(population=4, iterations=2, parents=2)


def short_method(method: Method) -> Method:
    """The same method with as little as shows that it runs."""
    if isinstance(method, Joint):
        network, weights = (replace(c, **LITTLE) for c in (method.rounds.network, method.rounds.weights))
        rounds = replace(method.rounds, rounds=1, network=network, weights=weights, episodes=2, episode_images=4)
        return replace(method, coarse=replace(method.coarse, **LITTLE), rounds=rounds)
    if isinstance(method, Exploration):
        return replace(method, epochs=1, batch=8, settings=replace(method.settings, samples=2, resamplings=1))
    assert isinstance(method, Stagewise)
    return replace(
        method,
        supernet=replace(method.supernet, **LITTLE),
        retrain=replace(method.retrain, **LITTLE),
        division=replace(method.division, evaluations=6, manager=FEW, stage=FEW),
        search_images=8,
        search_batch=8,
    )


def short(recipe: Recipe, data: Path, size: int) -> Recipe:
    """The same recipe, small."""
    return replace(
        recipe,
        model=recipe.model.partition("@")[0],  # nothing is downloaded here
        train=None if recipe.train is None else replace(recipe.train, **LITTLE),
        data=f"folder:{data}",
        data_options=DataConfig(val_fraction=0.3, image_size=size),
        budget=Budget(macs=0.5),
        method=short_method(recipe.method),
        finetune=replace(recipe.finetune, **LITTLE),
    )


HEAVY = {"exploration_vgg11_imagenet"}
"""134 million parameters, copied for each sub-network: a minute alone."""


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] if n in HEAVY else []) for n in RECIPES])
def test_every_recipe_runs_on_a_tree_of_images(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        sys.modules["widthwise.methods.compress"], "LATENCY_BATCHES", (1,)
    )  # timing 64 images takes longer than all
    size = 32 if "cifar" in name else 64
    recipe = short(RECIPES[name](), tree(tmp_path / "images", size), size)
    with annotations(checked=False):
        result = recipe.run(tmp_path / "run", progress=False)
    before, after = result.metrics["before"], result.metrics["after"]
    assert 0.45 * before.macs < after.macs <= 0.5 * before.macs


def test_the_settings_are_the_papers() -> None:
    recipe = RECIPES["stagewise_resnet56_cifar10"]()
    method = recipe.method
    assert isinstance(method, Stagewise)
    assert (method.ratios, method.least_ratio, method.smallest, method.search_images) == (31, 0.1, True, 2048)
    assert method.supernet == TrainConfig(
        epochs=50,
        batch_size=512,
        lr=0.025,
        nesterov=False,
        weight_decay=3e-4,
        schedule="step",
        step_milestones=(0.2, 0.4, 0.6, 0.8),
    )
    for level in (method.division.stage, method.division.manager):
        assert (level.population, level.mutation, level.iterations) == (128, 0.1, 10)


def test_the_search_of_the_papers_recipes_is_the_papers() -> None:
    methods = [RECIPES[name]().method for name in RECIPES if name.startswith("stagewise_")]
    assert len(methods) == 4
    for method in methods:
        assert isinstance(method, Stagewise)
        division = method.division
        assert (division.how, division.recombine, division.evaluations) == ("evolution", False, None)
        assert (method.chained, method.adapters, method.positions) == (0, "learned", "sum")


def test_the_command_line_lists_them_and_refuses_others(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipe", "list"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in RECIPES)
    assert main(["recipe", "nothing"]) == 2
    assert "stagewise_resnet50_imagenet" in capsys.readouterr().err.replace("\n", "")


@pytest.mark.parametrize("name", RECIPES)
def test_a_saved_recipe_is_a_configuration_of_prune(name: str, tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    assert main(["recipe", name, "--save", str(file)]) == 0
    parser = ArgumentParser()
    parser.add_function_arguments(prune)
    settings, chosen = parser.instantiate(parser.parse_path(str(file))), RECIPES[name]()
    assert getattr(settings, settings.method) == chosen.method
    assert (settings.model, settings.data, settings.data_options) == (chosen.model, chosen.data, chosen.data_options)
    assert settings.finetune == chosen.finetune
    assert settings.no_budget == (chosen.budget is None)
    assert chosen.budget in (None, settings.budget)
    assert main(["recipe", name, "--save", str(file)]) == 2  # nothing is overwritten
