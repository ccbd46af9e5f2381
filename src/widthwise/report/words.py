"""Numbers in words, the same way wherever a report has them."""

__all__ = ["METRICS", "PHASES", "amount", "counted", "duration", "ordinal", "percent", "points", "tick", "times"]

PHASES = {"train": "training", "search": "search", "finetune": "fine-tuning", "measure": "measuring"}
"""The phases of a run."""

METRICS = {"macs": "multiply-adds", "params": "parameters", "latency": "predicted time (ns)"}
"""What networks cost."""

MINUS = "\N{MINUS SIGN}"
SPACE = "\N{NO-BREAK SPACE}"

_UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def amount(value: float) -> str:
    """Three figures and a unit: ``1.19 M``; whole below ten thousand."""
    for size, unit in _UNITS:
        if value >= max(10_000, 0.9995 * size):
            scaled = value / size
            digits = 2 if scaled < 9.995 else 1 if scaled < 99.95 else 0
            return f"{scaled:.{digits}f}{SPACE}{unit}"
    return f"{value:,.0f}"


def tick(value: float) -> str:
    """A round number along an axis: ``1.5 M``, ``50 k``, ``64``."""
    for size, unit in _UNITS:
        if abs(value) >= size:
            return f"{value / size:g}{SPACE}{unit}"
    return f"{value:g}"


def percent(share: float, digits: int = 1) -> str:
    """A share of one: ``49.7%``; nothing has no sign."""
    text = f"{100 * share:z.{digits}f}%"
    return text.replace("-", MINUS)


def points(change: float) -> str:
    """A change of a percentage, with its sign: ``+1.20``; exactly nothing has none."""
    text = f"{change:+.2f}".replace("-", MINUS)
    return text if any(digit in text for digit in "123456789") else "0.00"


def times(factor: float) -> str:
    """How many times as fast."""
    return f"{factor:.2f}\N{MULTIPLICATION SIGN}"


def duration(seconds: float) -> str:
    """``8.2 s``, ``3 min 05 s``, ``2 h 07 min``."""
    if seconds < 59.95:
        return f"{seconds:.1f}{SPACE}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}{SPACE}min {rest:02d}{SPACE}s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours}{SPACE}h {minutes:02d}{SPACE}min"


def counted(count: int, noun: str) -> str:
    """``1 candidate``, ``60 candidates``."""
    return f"{count:,} {noun}" + "s" * (count != 1)


def ordinal(number: int) -> str:
    """``1st``, ``22nd``, ``13th``."""
    ending = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"
