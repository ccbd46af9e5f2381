"""Joint search-and-training: what its policy learned, round by round."""

from dataclasses import dataclass

from widthwise.methods import RunRecord

__all__ = ["Policy", "policy_of"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    """How the policy that picks thresholds went; one number per round."""

    rounds: tuple[int, ...]
    reward: tuple[float, ...]
    """Mean of the round's episodes; higher is better."""
    entropy: tuple[float, ...]
    """In nats per group, before the round's step; it starts at that of a uniform choice."""


def policy_of(run: RunRecord) -> Policy | None:
    """The policy of a run; None where none was trained."""
    learned = [event for event in run.of("round") if event.get("reward") is not None]
    if not learned:
        return None
    return Policy(
        rounds=tuple(event["index"] for event in learned),
        reward=tuple(event["reward"] for event in learned),
        entropy=tuple(event["entropy"] for event in learned),
    )
