"""What AWS charges, as the user's dated price file says it: no price is known otherwise."""

from __future__ import annotations

from collections.abc import Collection
from datetime import date
from typing import Annotated, Literal

from pydantic import Field

from include.strict import Strict

Price = Annotated[float, Field(ge=0)]


class InstancePrices(Strict):
    """One SageMaker instance type, per instance and hour."""

    training: Price | None = Field(None, description="In a training job: the judge's.")
    hosting: Price | None = Field(None, description="Behind an endpoint.")


class ModelPrices(Strict):
    """One Bedrock model, per million tokens."""

    input: Price | None = Field(None, description="What the model reads.")
    output: Price | None = Field(None, description="What it writes.")
    batch_input: Price | None = Field(None, description="What it reads in a batch job.")
    batch_output: Price | None = Field(None, description="What it writes in a batch job.")


class Prices(Strict):
    """A price file."""

    priced_at: date = Field(description="Day on which these were AWS's prices.")
    currency: Literal["USD"] = Field("USD", description="The only one that AWS's list has.")
    region: str = Field(description="AWS region; the environment's.")
    instances: dict[str, InstancePrices] = Field({}, description="By instance type.")
    models: dict[str, ModelPrices] = Field({}, description="By Bedrock's model id, as models say.")

    def only(self, instances: Collection[str], models: Collection[str]) -> Prices:
        """Return the prices of some instance types and models."""
        return self.model_copy(
            update={
                "instances": {n: p for n, p in self.instances.items() if n in instances},
                "models": {n: p for n, p in self.models.items() if n in models},
            }
        )
