"""Where tests of searches write down what a run would keep in a file."""


class Memory:
    """A log without a file."""

    def __init__(self, events=()) -> None:
        self.events = tuple(events)

    def append(self, event) -> None:
        self.events = (*self.events, dict(event))
