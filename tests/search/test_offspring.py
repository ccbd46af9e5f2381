"""Parents and children of the searches that breed."""

import torch

from widthwise.cost import Limits
from widthwise.search import first_widths
from widthwise.search.breeding import Breeder, offspring
from widthwise.subnet import Space


def test_of_equals_the_earlier_one_is_first(chain_space: Space, half: Limits) -> None:
    breeder = Breeder(chain_space, half, (), 0)
    assert torch.equal(breeder._best(2), torch.stack(first_widths(chain_space, half))), "nothing is told yet"
    for place, score in enumerate([0.5, 0.9, 0.5, 0.9]):
        breeder.tell(torch.tensor([place, 1, 1, 1]), score)
    assert breeder._best(3)[:, 0].tolist() == [1, 3, 0]
    assert len(breeder._best(8)) == 4


def test_children_have_each_ratio_from_a_parent_and_another_one_where_it_changes() -> None:
    parents = torch.rand(3, 5, dtype=torch.float64)
    children = offspring(parents, 200, 0.5, torch.Generator().manual_seed(0))
    same = children.crossed[:, None] == parents
    assert bool(same.any(1).all())
    assert bool((same.all(2).any(1) >= children.copies).all()), "a child of one parent twice is that parent"
    assert 0 < int(children.copies.sum()) < 200
    assert bool((children.changed != children.crossed).all())
    logs = (children.changed / children.crossed).log()
    assert 0.4 < float(logs.std()) < 0.6
