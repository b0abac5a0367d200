"""How numbers are written in the report."""


def signed(value: float, decimals: int = 1) -> str:
    """Return a difference with its sign: "+1.2", "−0.3"; what rounds to zero has none."""
    text = f"{value:+.{decimals}f}"
    return text[1:] if float(text) == 0 else text.replace("-", "−")
