"""The MetaData that `--declared MODULE:ATTRIBUTE` names, imported from the application in the working directory.

Importing runs the application's code; an exception is reported by its class and location, never with its text, which
may contain an address or a password.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from difflib import get_close_matches
from functools import reduce
from types import ModuleType

from sqlalchemy import MetaData

from everindex.errors import UsageError

_FORMS = "MODULE:ATTRIBUTE, such as app.models:Base or app.models:metadata, or the path of a .json file"


def metadata_of(declared: str) -> MetaData:
    """The named MetaData, or the MetaData of the named declarative Base. Raises UsageError."""
    module_name, colon, attribute = declared.partition(":")
    if not colon or not module_name or not attribute:
        raise UsageError(
            f"--declared {declared} was not found.",
            why="no such file exists, and it is not of the form MODULE:ATTRIBUTE.",
            next_step=f"write {_FORMS}.",
        )
    module = _imported(module_name)
    try:
        found = reduce(getattr, attribute.split("."), module)
    except AttributeError:
        raise _no_attribute(module, attribute) from None
    metadata = getattr(found, "metadata", found)
    if not isinstance(metadata, MetaData):
        raise UsageError(
            f"--declared {declared} is not a MetaData.",
            why=f"it is {_kind(found)}.",
            next_step=_suggestion(module, attribute),
        )
    return metadata


def _imported(name: str) -> ModuleType:
    # As with `python -m`: an application's own package is in the directory where the command is run.
    sys.path.insert(0, os.getcwd())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as exc:
        if exc.name is not None and (name == exc.name or name.startswith(f"{exc.name}.")):
            raise UsageError(
                f"module {exc.name} was not found.",
                why=f"it is neither in the working directory nor in the Python environment of everindex "
                f"({sys.prefix}).",
                next_step="run the command in the directory that contains the application's package, or correct "
                "--declared.",
            ) from None
        raise UsageError(
            f"module {name} cannot be imported.",
            why=f"it imports {exc.name}, which the environment of this everindex ({sys.prefix}) lacks.",
            next_step="install everindex into the environment of the application, and run that one.",
        ) from None
    except (Exception, SystemExit) as exc:
        raise UsageError(
            f"module {name} cannot be imported.",
            why=f"it raises {type(exc).__name__}{_place(exc)}.",
            next_step=f'`python -c "import {name}"` in this directory shows all of it; set what the module needs (such as '
            "its settings) for this command too.",
        ) from None
    finally:
        sys.path.pop(0)


def _place(exc: BaseException) -> str:
    """Where the exception was raised in the application's own code."""
    if isinstance(exc, SyntaxError) and exc.filename:
        return f" in {exc.filename}, line {exc.lineno}"
    frames = [frame for frame in traceback.extract_tb(exc.__traceback__) if "importlib" not in frame.filename]
    own = [frame for frame in frames if frame.filename.startswith(os.getcwd())] or frames
    return f" in {own[-1].filename}, line {own[-1].lineno}" if own else ""


def _no_attribute(module: ModuleType, attribute: str) -> UsageError:
    return UsageError(
        f"module {module.__name__} has no {attribute}.",
        why="it is misspelled, or created only when the application starts.",
        next_step=_suggestion(module, attribute),
    )


def _suggestion(module: ModuleType, attribute: str) -> str:
    """A similar name in the module that may be meant."""
    fitting = [name for name, value in vars(module).items() if isinstance(getattr(value, "metadata", value), MetaData)]
    # Models have the metadata of their Base too: suggest the Base rather than each model.
    fitting = [name for name in fitting if not hasattr(vars(module)[name], "__table__")]
    close = get_close_matches(attribute.partition(".")[0], fitting, n=1, cutoff=0.5) or fitting[:1]
    if close:
        return f"did you mean --declared {module.__name__}:{close[0]} ?"
    return f"name a SQLAlchemy MetaData or a declarative Base; write {_FORMS}."


def _kind(found: object) -> str:
    name = type(found).__name__
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"
