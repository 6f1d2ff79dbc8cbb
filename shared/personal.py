"""What a task card says of the prompts that hospitals keep for themselves; how they move is in `client.personal`."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from shared.toml import Table


class PersonalTable(Table):
    """`[plan.personal]`: every hospital also keeps a prompt of its own, drawn toward the shared one; docs/personal.md."""

    learning_rate: Annotated[float, Field(gt=0)]  # of the hospital's own step
    pull: Annotated[float, Field(ge=0)]  # lambda, in units of one over that learning rate; 0: on its own
    rows: Literal["all", "labels"] = "all"  # which rows are the hospital's own; the others are the shared ones

    @model_validator(mode="after")
    def _goes_no_further_than_the_shared_prompt(self) -> "PersonalTable":
        if self.learning_rate * self.pull > 1:
            raise ValueError(f"learning_rate x pull is {self.learning_rate * self.pull:g}; at most 1, or it overshoots; lower pull")
        return self
