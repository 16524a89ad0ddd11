"""The deployer's settings: one typed table, read from the environment (`GPTJ_*`) and flags."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from annotated_types import Ge, Le
from pydantic import (
    AliasChoices,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from gptj_demo.setting_values import (
    check_frame_origins,
    check_hosts,
    check_networks,
    check_origins,
)

Precision = Literal["auto", "float32", "float16", "bfloat16", "int8"]
_CHECKS = {
    "trusted_proxies": check_networks,
    "allowed_hosts": check_hosts,
    "cors_origins": check_origins,
    "frame_origins": check_frame_origins,
}
_EMPTY = "is empty: give it a value, or leave it out"


class Settings(BaseSettings):
    """The settings of one process; flags override the environment, which overrides the defaults."""

    model_config = SettingsConfigDict(env_prefix="GPTJ_", extra="ignore", frozen=True)

    model: str = Field(
        "auto",
        min_length=1,
        description="auto, sample, a hub id such as EleutherAI/gpt-j-6b, or a folder. auto takes "
        "GPT-J 6B where a GPU with room for it is found, or on a Space the memory, else the sample "
        "model.",
    )
    revision: str | None = Field(
        None,
        description="Branch, tag or commit of a hub id. EleutherAI/gpt-j-6b is read from its "
        "branch float16 unless precision is float32.",
    )
    adapter: str | None = Field(
        None,
        min_length=1,
        description="LoRA adapters that are merged into the model: hub ids or folders, separated "
        "by commas, each followed by =WEIGHT if that is not 1. Where model is auto, the base "
        "model that they name is taken.",
    )
    precision: Precision = Field(
        "auto",
        description="auto, float32, float16, bfloat16 or int8. auto takes the best that fits.",
    )
    kv_dtype: Literal["auto", "bfloat16"] = Field(
        "auto",
        description="auto, or bfloat16: a small model on a processor then keeps keys and values in "
        "16 bits instead of 32. Long texts are written faster and take half the memory, and the "
        "probabilities change a little. A model in 16 or 8 bits keeps 16 bits in any case.",
    )
    backend: str = Field(
        "auto",
        min_length=1,
        description="The forward path: auto, or one of cuda-graphs, cpu-int8, cpu-compiled, eager. "
        "auto takes the first of them that fits. openai asks the completions server at url instead "
        "of computing anything here.",
    )
    url: str | None = Field(
        None,
        min_length=1,
        description="For backend openai: the address of a server's completions API, such as "
        "http://localhost:8000/v1. It serves model, or auto where it has only one.",
    )
    url_key: SecretStr | None = Field(
        None,
        description="For backend openai: the key that this server wants. Better in the "
        "environment than as a flag, which others on the machine see.",
    )
    tokenizer: str | None = Field(
        None,
        min_length=1,
        description="For backend openai: the hub id or folder of the model's tokenizer. By default "
        "the hub id that the server names.",
    )
    speculation: Literal["auto", "off"] = Field(
        "auto",
        description="auto, or off: on a processor tokens that are likely to come are drafted and "
        "verified together, which is faster and changes no text.",
    )
    draft: str | None = Field(
        None,
        min_length=1,
        description="A small model with the same tokenizer that drafts such tokens: a folder or a "
        "hub id. By default drafts come from the texts alone.",
    )
    max_num_seqs: int | None = Field(
        None,
        ge=1,
        le=2048,
        description="How many requests are generated side by side; by default as many of 220 "
        "tokens as the memory holds, at most 256 on a GPU and 32 on a processor.",
    )
    engines: str | None = Field(
        None,
        min_length=1,
        description="How many engines Ray Serve runs, such as 2, or 2..8 for as many as the load "
        "needs. By default one engine, without Ray.",
    )
    ray_address: str | None = Field(
        None,
        min_length=1,
        description="The Ray cluster that runs them: auto for the one that this machine is part "
        "of. By default Ray is started on this machine alone.",
    )
    max_waiting: int = Field(
        64, ge=0, le=10_000, description="How many requests may wait; one more is refused."
    )
    drain_seconds: float = Field(
        10.0,
        ge=0,
        le=86_400,
        description="How long running requests may go on after SIGTERM or SIGINT, in seconds.",
    )
    server_name: str = Field(
        "127.0.0.1",
        min_length=1,
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
    api_keys: SecretStr | None = Field(
        None,
        description="Keys that programs must have, separated by commas; without any, everyone may "
        "use the API. A key written as metrics:KEY opens /metrics and nothing else. Better in the "
        "environment than as a flag, which others on the machine see.",
    )
    api_keys_file: Path | None = Field(
        None,
        description="A file with such keys, one a line; lines that begin with # are comments. It "
        "is read again when it changes.",
    )
    login: SecretStr | None = Field(
        None,
        description="name:password of those who may open the page, several separated by commas; "
        "without any it is open. The API then needs keys too.",
    )
    limits: Literal["none", "public"] = Field(
        "none",
        description="none, or public: each caller, told apart by key or address, may have 8 "
        "requests at a time and use 20000 tokens a minute, where the two settings below say "
        "nothing else.",
    )
    requests_per_caller: int | None = Field(
        None, ge=1, description="Requests that one caller of the API may have at a time."
    )
    tokens_per_minute: int | None = Field(
        None,
        ge=1,
        description="Tokens that one caller may use in a minute, read and written. A request that "
        "can use more is refused.",
    )
    limits_storage: SecretStr | None = Field(
        None,
        description="A Redis, such as redis://localhost:6379/0, in which several web processes "
        "count the tokens of callers together. By default each counts alone.",
    )
    max_prompt_tokens: int | None = Field(
        None,
        ge=1,
        description="Tokens that a prompt of the API may have; by default as many as the model "
        "reads.",
    )
    max_body_bytes: int = Field(
        4 * 2**20, ge=1, description="Bytes that the body of a request may have."
    )
    access_log: Literal["none", "json"] = Field(
        "none",
        description="none, or json: a line for each request of the API on standard error, with "
        "method, path, status, request id, times and tokens, and never a text.",
    )
    cors_origins: str = Field(
        "",
        description="Other sites whose pages may use the playground from a browser, such as "
        "https://example.org, separated by commas; * is all of them.",
    )
    allowed_hosts: str = Field(
        "",
        description="Host names that the playground answers to, such as play.example.org or "
        "*.example.org, separated by commas; * is all of them. IP addresses, the machine's own "
        "name and names of a local network are always accepted. By default nothing else, and "
        "behind a trusted proxy every name.",
    )
    frame_origins: str = Field(
        "https://huggingface.co,https://*.hf.space",
        description="Other sites that may show the page in a frame, separated by commas.",
    )
    trusted_proxies: str | None = Field(
        None,
        description="Addresses or networks of proxies, separated by commas, whose "
        "X-Forwarded-For header is trusted. By default none; on a Space the private networks.",
    )
    filter: str | None = Field(
        None,
        min_length=1,
        description="Checks each sentence that the model writes before it is shown: a file of "
        "regular expressions, one a line; a folder or hub id of a text classifier; or an http(s) "
        "address. None by default.",
    )
    filter_action: Literal["hold", "mark", "end"] = Field(
        "hold",
        description="What happens to a sentence that the filter flags: hold leaves it out, mark "
        "shows it marked, end ends the text before it.",
    )
    filter_labels: str = Field(
        "",
        description="The classifier's labels that flag a sentence, separated by commas; by default "
        "the second of two, and all of a classifier that gives several at once.",
    )
    filter_threshold: float = Field(
        0.5, ge=0, le=1, description="The probability from which such a label flags a sentence."
    )
    reports: Path | None = Field(
        None,
        description="A file to which visitors can send texts that they want to report, one JSON "
        "object a line. Without it the page has no such button.",
    )

    @field_validator("*", mode="before")
    @classmethod
    def _check(cls, value: Any, info: ValidationInfo) -> Any:
        if not isinstance(value, str):
            return value
        value = value.strip()  # files of settings can have line ends of Windows
        name = str(info.field_name)
        if not value and cls.model_fields[name].annotation is not str:
            raise ValueError(_EMPTY)
        if name in _CHECKS:
            _CHECKS[name](value)
        return value


class InvalidSettings(ValueError):
    """A setting has an invalid value; the message names the setting and the allowed values."""


def read_lines(file: Path, what: str) -> list[str]:
    """The lines of a deployer's file; raises `InvalidSettings`, whose message calls it `what`."""
    try:
        return file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise InvalidSettings(f"The {what}, {file}, cannot be read: {why}.") from None


def environment_variable(name: str) -> str:
    """The environment variable of a setting."""
    return f"GRADIO_{name.upper()}" if name.startswith("server_") else f"GPTJ_{name.upper()}"


def unknown_variables() -> str | None:
    """A sentence that names the environment's `GPTJ_*` variables that are not settings, or None.

    They are not refused: Kubernetes gives a container such variables for a Service called `gptj`.
    """
    known = [environment_variable(name) for name in Settings.model_fields]
    unknown = []
    for variable in sorted(os.environ):
        prefix, _, name = variable.lower().partition("_")
        if prefix == "gptj" and variable.upper() not in known:
            meant = difflib.get_close_matches(name, Settings.model_fields, n=1, cutoff=0.75)
            hint = f" (did you mean {environment_variable(meant[0])}?)" if meant else ""
            unknown.append(variable + hint)
    if not unknown:
        return None
    return f"These variables are not settings and have no effect: {', '.join(unknown)}."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add one flag for each setting; `read_settings` reads them back."""
    group = parser.add_argument_group("settings")
    for name, field in Settings.model_fields.items():
        default = "" if field.default in (None, "") else f" Default: {field.default}."
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
    if error["type"] == "value_error":
        return f"{source} {error['ctx']['error']}."
    if error["type"] == "string_too_short":
        return f"{source} {_EMPTY}."
    if error["type"] == "literal_error":
        allowed = str(error["ctx"]["expected"]).replace("'", "").replace(" or ", ", ")
    else:
        allowed = _describe_range(name) or str(error["msg"]).removeprefix("Input should be ")
    return f"{source} is {error['input']}. Allowed: {allowed}."


def _describe_range(name: str) -> str | None:
    """The numbers that a setting can have, in words; None unless it is a number."""
    field = Settings.model_fields[name]
    kinds = get_args(field.annotation) or (field.annotation,)
    if int not in kinds and float not in kinds:
        return None
    least = next((one.ge for one in field.metadata if isinstance(one, Ge)), None)
    most = next((one.le for one in field.metadata if isinstance(one, Le)), None)
    kind = "a whole number" if int in kinds else "a number"
    return f"{kind} from {least}" + ("" if most is None else f" to {most}")


def parse_flags(description: str, argv: Sequence[str] | None = None) -> Settings:
    """Settings of a program that has no other flags; prints and exits 2 where one is wrong."""
    parser = argparse.ArgumentParser(description=description)
    add_arguments(parser)
    arguments = parser.parse_args(argv)
    if unknown := unknown_variables():
        with contextlib.suppress(OSError):  # of a log on a full disk
            print(unknown, file=sys.stderr)
    try:
        return read_settings(arguments)
    except InvalidSettings as error:
        parser.exit(2, f"{error}\n")
