"""A network as a chain of stages, each of which runs alone on stored features."""

from widthwise.stages.chain import HEAD, Stage, Stages, find_stages

__all__ = ["HEAD", "Stage", "Stages", "find_stages"]
