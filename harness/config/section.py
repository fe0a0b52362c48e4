"""What every section of a run's settings is."""

from typing import Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """Unknown keys are errors, infinities and NaN too; a built section cannot change."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def none_may_be_a_choice(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Read the absence of a value as the choice 'none' where there is one: a command line spells both alike."""
        choices = {name for name, field in cls.model_fields.items() if "none" in get_args(field.annotation)}
        for name, value in values.items():
            if isinstance(value, bool) and name in cls.model_fields and cls.model_fields[name].annotation is not bool:
                raise ValueError(f"--{name}: expected no boolean, got {str(value).lower()}")
        return {name: "none" if value is None and name in choices else value for name, value in values.items()}
