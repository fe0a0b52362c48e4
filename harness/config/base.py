"""What the sections of the settings share, and how a value is spelled as a flag."""

from typing import Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """Unknown keys, infinities and NaN are errors; a section cannot change once built."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def none_may_be_a_choice(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Read an absent value as the choice 'none' where there is one: a command line spells both alike."""
        choices = {name for name, field in cls.model_fields.items() if "none" in get_args(field.annotation)}
        for name, value in values.items():
            if isinstance(value, bool) and name in cls.model_fields and cls.model_fields[name].annotation is not bool:
                raise ValueError(f"--{name}: expected no boolean, got {str(value).lower()}")
        return {name: "none" if value is None and name in choices else value for name, value in values.items()}


def setting(default: Any, description: str, **limits: Any) -> Any:
    """A field with its default, its help text, and pydantic's limits on its value."""
    return Field(default=default, description=description, **limits)


def spelled(value: object) -> str:
    """The value as a flag takes it."""
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def parsed(value: str) -> str | None:
    """The value of a flag: `none` and `None` mean that there is none, everything else is the schema's to read."""
    return None if value in ("none", "None") else value
