"""Names of the parts that a split is cut into."""


def shard_names(split: str, count: int) -> list[str]:
    """Return train-00, train-01 … for a number of shards, in order; as many digits as they need."""
    digits = max(2, len(str(count - 1)))
    return [f"{split}-{number:0{digits}d}" for number in range(count)]
