"""Run folders: atomic files, the append-only journal, and the rule of one configuration per folder."""

from widthwise.runs.atomic import read_json, write_atomic, write_json, write_text
from widthwise.runs.environment import describe_environment
from widthwise.runs.folder import RunFolder, RunPaths
from widthwise.runs.journal import Journal, read_events
from widthwise.runs.phases import Phases

__all__ = [
    "Journal",
    "Phases",
    "RunFolder",
    "RunPaths",
    "describe_environment",
    "read_events",
    "read_json",
    "write_atomic",
    "write_json",
    "write_text",
]
