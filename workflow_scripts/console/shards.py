"""Which part of a dataset one job works on, and how it names its files."""

from pathlib import Path

from pydantic import Field

from workflow_scripts.console.stage import StageFiles
from workflow_scripts.datasets.index import ImageRecord, Index, read_index


class ShardFiles(StageFiles):
    """What every stage takes that works on one shard of a split."""

    index: Path = Field(description="index.csv of the dataset")
    split: str = Field(description="split of the index")
    shard: int = Field(0, ge=0, description="number of this shard, from 0")
    shards: int = Field(1, ge=1, description="number of shards of the split")

    def read(self) -> tuple[Index, list[ImageRecord]]:
        """The index, and this shard's images."""
        index = read_index(self.index)
        return index, index.shard(self.split, self.shard, self.shards)


class InferenceFiles(ShardFiles):
    """What a stage takes that makes the activations of one shard."""

    output: Path = Field(description="shard of activations to write (safetensors)")
    device: str = Field("auto", description="auto, cpu or cuda")
