"""Numbers in words, the same way wherever a report has them."""

__all__ = ["amount", "counted", "duration", "ordinal", "percent", "points", "times"]

MINUS = "\N{MINUS SIGN}"

_UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def amount(value: float) -> str:
    """Three figures and a unit: ``1.19 M``; whole below ten thousand."""
    for size, unit in _UNITS:
        if value >= size and value >= 10_000:
            scaled = value / size
            return f"{scaled:.{2 if scaled < 9.995 else 1 if scaled < 99.95 else 0}f} {unit}"
    return f"{value:,.0f}"


def percent(share: float, digits: int = 1) -> str:
    """A share of one: ``49.7%``."""
    return f"{100 * share:.{digits}f}%".replace("-", MINUS)


def points(change: float) -> str:
    """A change of a percentage, with its sign: ``+1.20``; exactly nothing has none."""
    text = f"{change:+.2f}".replace("-", MINUS)
    return text if any(digit in text for digit in "123456789") else "0.00"


def times(factor: float) -> str:
    """How many times as fast."""
    return f"{factor:.2f}×"


def duration(seconds: float) -> str:
    """``8.2 s``, ``3 min 05 s``, ``2 h 07 min``."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min"


def counted(count: int, noun: str) -> str:
    """``1 candidate``, ``60 candidates``."""
    return f"{count:,} {noun}" + "s" * (count != 1)


def ordinal(number: int) -> str:
    """``1st``, ``22nd``, ``13th``."""
    ending = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"
