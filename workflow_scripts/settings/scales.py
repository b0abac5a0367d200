"""At which sizes a network sees an image."""

from typing import Annotated

from pydantic import Field

Scale = Annotated[float, Field(gt=0)]
