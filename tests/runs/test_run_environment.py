"""What a run records about its machine."""

import json
import sys
from datetime import UTC, datetime, timedelta

import torch

from widthwise.runs.environment import describe_environment


def test_names_versions_machine_seeds_and_command() -> None:
    environment = describe_environment({"search": 3})
    assert environment["seeds"] == {"search": 3}
    assert environment["command"] == sys.argv
    assert environment["packages"]["torch"] == torch.__version__
    assert set(environment["packages"]) >= {"widthwise", "torch", "torchvision", "numpy"}
    assert environment["python"] == ".".join(str(part) for part in sys.version_info[:3])
    assert environment["cpu_count"] >= 1
    assert len(environment["devices"]) == torch.cuda.device_count()
    age = datetime.now(UTC) - datetime.fromisoformat(environment["date"])
    assert timedelta(seconds=-1) < age < timedelta(minutes=1)


def test_is_json() -> None:
    environment = describe_environment()
    assert json.loads(json.dumps(environment, allow_nan=False)) == environment
