"""The base class of config sections, and the conversion of values to and from flags."""

from typing import Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """A frozen section of the config. Unknown keys, infinities and NaN are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def none_may_be_a_choice(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Read None as the choice 'none' for settings that have it, since both are spelled "none" on the command line.

        Raises ValueError for a boolean in a setting that takes none.
        """
        choices = {name for name, field in cls.model_fields.items() if "none" in get_args(field.annotation)}
        for name, value in values.items():
            if isinstance(value, bool) and name in cls.model_fields and cls.model_fields[name].annotation is not bool:
                raise ValueError(f"--{name}: expected no boolean, got {str(value).lower()}")
        return {name: "none" if value is None and name in choices else value for name, value in values.items()}


def setting(default: Any, description: str, **limits: Any) -> Any:
    """A pydantic field with a default, a help text, and limits on its value (gt, ge, lt, le)."""
    return Field(default=default, description=description, **limits)


def spelled(value: object) -> str:
    """The value as it is written on the command line."""
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def parsed(value: str) -> str | None:
    """The value of a flag: None for `none` and `None`; any other text is left for the schema to convert."""
    return None if value in ("none", "None") else value
