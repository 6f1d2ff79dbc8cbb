"""Read a TOML file into a pydantic model; every mistake becomes one sentence that names the file and the key."""

import hashlib
import tomllib
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from shared.errors import InputError


class Table(BaseModel):
    """A TOML table: frozen, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False, allow_inf_nan=False)


T = TypeVar("T", bound=Table)


def read_text(path: Path) -> str:
    """Return the file's text; raise `InputError` when it is missing or not UTF-8."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file; check the path.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as UTF-8 text ({error}).") from None


def parse(model: type[T], text: str, source: str) -> T:
    """Parse `text` as TOML into `model`.

    Raises `InputError` naming `source` and the first offending key or line.

    >>> class Box(Table):
    ...     size: int
    >>> parse(Box, "size = 3", "box.toml").size
    3
    >>> parse(Box, "sise = 3", "box.toml")
    Traceback (most recent call last):
    ...
    shared.errors.InputError: box.toml: key 'sise' is not known here; did you mean 'size'?
    """
    try:
        return model.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{source}: not valid TOML: {error}.") from None
    except ValidationError as error:
        raise InputError(f"{source}: {_first_sentence(error, model)}") from None


def digest(text: str) -> str:
    """Return the SHA-256 of the text's UTF-8 bytes as hex: what `sha256sum FILE` prints."""
    return hashlib.sha256(text.encode()).hexdigest()


def _first_sentence(error: ValidationError, model: type[BaseModel]) -> str:
    """Say the most useful problem: a misspelt key before the key that is missing because of it."""
    problems = error.errors()
    first = next((p for p in problems if p["type"] == "extra_forbidden"), problems[0])
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"key '{key}' is not known here; {_nearest(str(first['loc'][-1]), first['loc'], model)}"
    if first["type"] == "missing":
        return f"key '{key}' is missing; add it."
    message = first["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    return f"key '{key}': {message}." if key else f"{message.rstrip('.')}."


def _nearest(name: str, where: tuple[int | str, ...], model: type[BaseModel]) -> str:
    import difflib  # noqa: PLC0415 (only on the way to an error message)

    known = _keys_at(where[:-1], model)
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f"did you mean '{close[0]}'?"
    return f"known keys are {', '.join(sorted(known))}." if known else "remove it."


def _keys_at(where: tuple[int | str, ...], model: type[BaseModel]) -> list[str]:
    """Return the keys that `model` knows at the table `where`, following nested tables."""
    for part in where:
        field = model.model_fields.get(str(part))
        inner = getattr(field, "annotation", None)
        candidates = [inner, *getattr(inner, "__args__", ())]
        tables = [c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)]
        if not tables:
            return _names(model)
        model = tables[0]
    return _names(model)


def _names(model: type[BaseModel]) -> list[str]:
    """Return the keys as a file has them."""
    return [field.alias or name for name, field in model.model_fields.items()]


def shipped(name_or_path: str, folder: Path, kind: str) -> Path:
    """Return a TOML file's path: the one that is given, or the file of that name that ships in `folder`.

    Raises `InputError` for a name that does not ship; `kind` is what it calls such a file.
    """
    path = Path(name_or_path)
    if path.suffix == ".toml" or path.exists():
        return path
    path = folder / f"{name_or_path}.toml"
    if not path.exists():
        there = ", ".join(sorted(each.stem for each in folder.glob("*.toml")))
        raise InputError(f"{name_or_path}: no such file and no shipped {kind}; shipped {kind}s: {there}.")
    return path
