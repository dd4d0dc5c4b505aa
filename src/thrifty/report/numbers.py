"""Numbers as people read them: k, M, %, minutes. None and NaN become a dash."""

from __future__ import annotations

import math

MISSING = "–"
MINUS = "\N{MINUS SIGN}"
_SCALES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def significant(value: float | None, digits: int = 3) -> str:
    """A number with so many significant digits, never in powers of ten below a million.

    Example:
        >>> significant(0.123456), significant(1234.6), significant(12.0)
        ('0.123', '1,235', '12')
    """
    if value is None or not math.isfinite(value):
        return MISSING
    if value == 0:
        return "0"
    places = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    if places > digits + 3:
        return f"{value:.{digits - 1}e}".replace("-", MINUS)
    text = f"{value:,.{places}f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return text.replace("-", MINUS)


def count(value: float | None) -> str:
    """A count in three digits with k, M, G or T.

    Example:
        >>> count(950), count(5230), count(1_000_000)
        ('950', '5.23k', '1M')
    """
    if value is None or not math.isfinite(value):
        return MISSING
    for scale, letter in _SCALES:
        if abs(value) >= scale * 0.9995:
            return significant(value / scale) + letter
    return significant(value)


def share(value: float | None) -> str:
    r"""A fraction of one in per cent, with a space that does not break.

    Example:
        >>> share(0.106), share(1.0)
        ('10.6\xa0%', '100\xa0%')
    """
    if value is None or not math.isfinite(value):
        return MISSING
    return significant(100.0 * value) + "\N{NO-BREAK SPACE}%"


def duration(seconds: float | None) -> str:
    """A time span in its two largest units.

    Example:
        >>> duration(4.25), duration(192), duration(7500)
        ('4.2 s', '3 min 12 s', '2 h 5 min')
    """
    if seconds is None or not math.isfinite(seconds):
        return MISSING
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min"


def signed(value: float | None, digits: int = 3) -> str:
    """A difference with its sign.

    Example:
        >>> signed(12.0)
        '+12'
    """
    text = significant(value, digits)
    return "+" + text if value is not None and math.isfinite(value) and value > 0 else text


def interval(low: float, high: float, *, signs: bool = False) -> str:
    """The bounds of an interval, both rounded to a hundredth of its width at the most.

    Example:
        >>> interval(-265.31, 37.82), interval(0.1234, 0.1567), interval(math.nan, math.nan)
        ('[−265, 38]', '[0.123, 0.157]', 'one run: none')
    """
    if not (math.isfinite(low) and math.isfinite(high)):
        return "one run: none"
    places = max(0, 1 - math.floor(math.log10(high - low))) if high > low else 3
    form = f"{'+' if signs else ''},.{places}f"
    return f"[{low:{form}}, {high:{form}}]".replace("-", MINUS)
