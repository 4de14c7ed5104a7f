"""What may be called what: names, versions, references and the words of people."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, get_args

from edgeft.errors import EdgeftError, Exit, RecipeError

Stage = Literal["staging", "production"]
STAGES: tuple[Stage, ...] = get_args(Stage)
NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,63}")
"""As the names of recipes."""
VERSION = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._+-]{0,31}")
LONGEST_TEXT = 1000


class RegistryError(EdgeftError):
    """The registry cannot be read or written, or is not as it was written."""


class NotPromotable(EdgeftError):
    """A version that may not be released: 1 where it failed or is not trusted, 5 where nobody knows."""

    exit_code = Exit.GATE_FAILED


class Undecided(NotPromotable):
    """Its gates are inconclusive, or there is no key to ask whether it was signed."""

    exit_code = Exit.INCONCLUSIVE


@dataclass(frozen=True)
class Reference:
    """`router:2` a version, `router@production` what is released, `router` the newest."""

    name: str
    version: str = ""
    stage: str = ""

    def __str__(self) -> str:
        return self.name + (f":{self.version}" if self.version else f"@{self.stage}" if self.stage else "")


def parse_reference(text: str) -> Reference:
    """RecipeError for what is none."""
    name, mark, rest = text.partition("@") if "@" in text else text.partition(":")
    if mark == "@":
        return Reference(checked_name(name), stage=checked_stage(rest))
    return Reference(checked_name(name), version=checked_version(rest) if mark else "")


def checked_name(name: str) -> str:
    """The name itself. RecipeError where it could not be a recipe's."""
    if not NAME.fullmatch(name):
        raise RecipeError(
            f"{shown(name)} is no name: 1 to 64 letters, digits, '.', '_' or '-', a letter or digit first",
            where="NAME",
            hint="a version is router:2, a released one router@production",
        )
    return name


def checked_version(version: str) -> str:
    """The version itself. RecipeError where it is none."""
    if not VERSION.fullmatch(version):
        raise RecipeError(
            f"{shown(version)} is no version: 1 to 32 letters, digits, '.', '_', '+' or '-'",
            where="version",
            hint="for instance 3 or 1.2.0",
        )
    return version


def checked_stage(stage: str) -> Stage:
    """The stage itself. RecipeError where there is none of that name."""
    for known in STAGES:
        if known == stage:
            return known
    raise RecipeError(f"{shown(stage)} is no stage", where="stage", hint=f"one of {', '.join(STAGES)}")


def checked_words(text: str, option: str) -> str:
    """Who or why, for an auditor: one line that prints. RecipeError where it is empty or none."""
    words = text.strip()
    if not words or len(words) > LONGEST_TEXT or not words.isprintable():
        raise RecipeError(
            f"must be one line of 1 to {LONGEST_TEXT} characters that print", where=option, hint="it stays in the log"
        )
    return words


def shown(value: str) -> str:
    """A stranger's text, safe on a terminal and short."""
    text = value if len(value) <= 80 else f"{value[:80]}..."
    return f"'{text}'" if text.isprintable() else ascii(text)
