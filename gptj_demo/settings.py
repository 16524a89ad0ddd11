"""What a deployer decides: one typed table, from the environment (`GPTJ_*`) and from flags."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import AliasChoices, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

Precision = Literal["auto", "float32", "float16", "bfloat16", "int8"]


class Settings(BaseSettings):
    """The settings of one process: flags win over the environment, that over the defaults."""

    model_config = SettingsConfigDict(env_prefix="GPTJ_", extra="ignore", frozen=True)

    model: str = Field(
        "auto",
        min_length=1,
        description="auto, sample, a hub id such as EleutherAI/gpt-j-6b, or a folder. auto takes "
        "GPT-J 6B where a GPU with room for it is found, else the sample model.",
    )
    revision: str | None = Field(
        None,
        description="Branch, tag or commit of a hub id. EleutherAI/gpt-j-6b is read from its "
        "branch float16 unless precision is float32.",
    )
    precision: Precision = Field(
        "auto",
        description="auto, float32, float16, bfloat16 or int8. auto takes the best that fits.",
    )
    max_streams: int | None = Field(
        None,
        ge=1,
        le=256,
        description="How many requests are generated side by side; by default as many as the "
        "memory holds, 32 at most.",
    )
    max_waiting: int = Field(
        64, ge=0, le=10_000, description="How many requests may wait; one more is refused."
    )
    server_name: str = Field(
        "127.0.0.1",
        validation_alias=AliasChoices("server_name", "GRADIO_SERVER_NAME"),
        description="Address to listen on; 0.0.0.0 is every interface.",
    )
    server_port: int = Field(
        7860,
        ge=1,
        le=65535,
        validation_alias=AliasChoices("server_port", "GRADIO_SERVER_PORT"),
        description="Port to listen on.",
    )


class InvalidSettings(ValueError):
    """A setting has a value it cannot have; the message names it and what is allowed."""


def environment_variable(name: str) -> str:
    """The environment variable of a setting."""
    return f"GRADIO_{name.upper()}" if name.startswith("server_") else f"GPTJ_{name.upper()}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add one flag for each setting; `read_settings` reads them back."""
    group = parser.add_argument_group("settings")
    for name, field in Settings.model_fields.items():
        default = "" if field.default is None else f" Default: {field.default}."
        group.add_argument(
            "--" + name.replace("_", "-"),
            dest=name,
            default=None,
            metavar=name.upper(),
            help=f"{field.description}{default} [{environment_variable(name)}]",
        )


def read_settings(arguments: argparse.Namespace | None = None) -> Settings:
    """Settings from the environment and from parsed flags; raises `InvalidSettings`."""
    given: dict[str, Any] = {}
    if arguments is not None:
        given = {
            name: value
            for name in Settings.model_fields
            if (value := getattr(arguments, name, None)) is not None
        }
    try:
        return Settings(**given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise InvalidSettings(_explain(str(first["loc"][0]), first, given)) from None


def _explain(location: str, error: Any, given: dict[str, Any]) -> str:
    name = location.lower().removeprefix("gradio_").removeprefix("gptj_")
    source = "--" + name.replace("_", "-") if name in given else environment_variable(name)
    message = str(error["msg"]).removeprefix("Input should be ")
    return f"{source} is {error['input']!r}; it must be {message}."


def parse_flags(description: str, argv: Sequence[str] | None = None) -> Settings:
    """Settings of a program that has no other flags; prints and exits 2 where one is wrong."""
    parser = argparse.ArgumentParser(description=description)
    add_arguments(parser)
    try:
        return read_settings(parser.parse_args(argv))
    except InvalidSettings as error:
        parser.exit(2, f"{error}\n")
