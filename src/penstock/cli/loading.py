"""`MODULE:TASK` as users write it, to the `Task` that they mean; what is wrong is said with the names that exist.

terminal → [loading] → task
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
import traceback
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock.errors import SettingsError
from penstock.task import Task

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

_DECLARATION = re.compile(r"^(\w+)\s*(?::[^=\n]+)?=\s*Task\(", re.MULTILINE)


def load_tasks(
    references: Sequence[str], directory: Path | None = None, *, policy: Path | None = None
) -> list[Task[Any, Any]]:
    """One task per reference; two of one name would share a group, and that is never meant."""
    tasks = [load_task(reference, directory) for reference in references]
    if policy is not None:
        tasks = _under_policy(references, tasks, policy, directory or Path.cwd())
    names = [task.name for task in tasks]
    for name in names:
        if names.count(name) > 1:
            raise SettingsError(f"two of these tasks have the name {name!r}, and the name is the consumer group")
    return tasks


def load_task(reference: str, directory: Path | None = None) -> Task[Any, Any]:
    """The task behind `module:attribute`, `path/to/file.py:attribute`, or a module or file with exactly one task."""
    where = directory or Path.cwd()
    source, attribute = split_reference(reference)
    if not source:
        raise SettingsError(f"{reference!r} names no task: write MODULE:TASK{_known(where)}")
    return _task_of(module_of(source, where), source, attribute)


def _under_policy(
    references: Sequence[str], tasks: Sequence[Task[Any, Any]], policy: Path, where: Path
) -> list[Task[Any, Any]]:
    """A module that offers `load_policy(path)` and `<task>_under(policy)` lets its task be made under another policy."""
    made: list[Task[Any, Any]] = []
    for reference, task in zip(references, tasks, strict=True):
        source, _ = split_reference(reference)
        module = module_of(source, where)
        name = next(name for name, found in tasks_in(module).items() if found is task)
        make, load = getattr(module, f"{name}_under", None), getattr(module, "load_policy", None)
        made.append(make(load(policy)) if make and load else task)
    if all(new is old for new, old in zip(made, tasks, strict=True)):
        raise SettingsError(f"policy: none of {', '.join(references)} can be made under a policy file ({policy})")
    return made


def module_of(source: str, where: Path) -> ModuleType:
    """The module that a reference names: by its name, or by its file."""
    return _from_file(Path(source), where) if _is_path(source) else _from_name(source, where)


def split_reference(reference: str) -> tuple[str, str]:
    """Module or file, and the attribute (may be empty). A drive letter is not a module."""
    source, colon, attribute = reference.rpartition(":")
    if not colon or attribute.endswith(".py") or "/" in attribute or "\\" in attribute:
        return reference, ""
    return source, attribute


def declared_tasks(directory: Path) -> list[str]:
    """References of the tasks that files in this directory declare, found by reading, not by importing."""
    found: list[str] = []
    for file in sorted(directory.glob("*.py")):
        try:
            text = file.read_text("utf-8", "replace")
        except OSError:
            continue
        found.extend(f"{file.stem}:{name}" for name in _DECLARATION.findall(text))
    return found


def _known(directory: Path) -> str:
    found = declared_tasks(directory)
    return f"\ntasks in {directory}: {', '.join(found)}" if found else ""


def _is_path(source: str) -> bool:
    return source.endswith(".py") or "/" in source or "\\" in source


def _from_file(path: Path, where: Path) -> ModuleType:
    file = (where / path).resolve()
    if not file.is_file():
        raise SettingsError(f"there is no file {path}{_known(where)}")
    _make_importable(file.parent)
    name = file.stem
    while name in sys.modules and getattr(sys.modules[name], "__file__", None) != str(file):
        name = f"_{name}"  # pydantic finds a model's neighbours by its module's name, so it must be its own
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise SettingsError(f"{path} is not a Python file")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise _import_failed(str(path), error) from error
    return module


def _from_name(name: str, where: Path) -> ModuleType:
    _make_importable(where)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise SettingsError(_no_module(name, where)) from error
        raise _import_failed(name, error) from error
    except (Exception, SystemExit) as error:
        raise _import_failed(name, error) from error


def _make_importable(directory: Path) -> None:
    if str(directory) not in sys.path:
        sys.path.insert(0, str(directory))
        importlib.invalidate_caches()


def _no_module(name: str, where: Path) -> str:
    here = [file.stem for file in where.glob("*.py")]
    here += [file.parent.name for file in where.glob("*/__init__.py")]
    close = get_close_matches(name, here, n=1)
    guess = f"; did you mean {close[0]!r}?" if close else ""
    return f"no module named {name!r} in {where} or among the installed packages{guess}{_known(where)}"


def _import_failed(name: str, error: BaseException) -> SettingsError:
    """Names the line of the user's own code that failed, and repeats what Python said about it."""
    if isinstance(error, SyntaxError):
        place = f"{error.filename}:{error.lineno}"
        said = f"{type(error).__name__}: {error.msg}"
    else:
        place = _users_line(error)
        said = f"{type(error).__name__}: {error}"
    return SettingsError(f"{name} cannot be imported\n  {place}\n  {said}")


def _users_line(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if not f.filename.startswith("<") and "site-packages" not in f.filename and not _ours(f)]
    frame = own[-1] if own else frames[-1]
    return f"{frame.filename}:{frame.lineno}"


def _ours(frame: traceback.FrameSummary) -> bool:
    library = (Path(importlib.__file__ or "").parent.parent, Path(__file__).parents[1])
    return any(Path(frame.filename).is_relative_to(folder) for folder in library)


def _task_of(module: ModuleType, source: str, attribute: str) -> Task[Any, Any]:
    tasks = tasks_in(module)
    listing = ", ".join(f"{source}:{name}" for name in tasks)
    if not attribute:
        if len(tasks) == 1:
            return next(iter(tasks.values()))
        raise SettingsError(
            f"{source} has {len(tasks)} tasks; name one: {listing}"
            if tasks
            else f"{source} declares no Task: write `my_task = Task('my-task', reads=…, input=…, output=…, instructions=…)`"
        )
    found = getattr(module, attribute, None)
    if isinstance(found, Task):
        return found
    if found is not None:
        raise SettingsError(f"{source}:{attribute} is no Task but {_kind(found)}{_listed(listing)}")
    close = get_close_matches(attribute, list(tasks), n=1)
    guess = f"; did you mean {source}:{close[0]}?" if close else ""
    raise SettingsError(f"{source} has no task {attribute!r}{guess}{_listed(listing)}")


def tasks_in(module: ModuleType) -> dict[str, Task[Any, Any]]:
    """The tasks of a module by their attribute's name; one that has two names counts once."""
    found: dict[str, Task[Any, Any]] = {}
    for name in dir(module):
        value = getattr(module, name, None)
        if isinstance(value, Task) and not any(value is other for other in found.values()):
            found[name] = value
    return found


def _kind(value: object) -> str:
    if isinstance(value, type):
        return f"the class {value.__name__}"
    return f"a {type(value).__name__}"


def _listed(listing: str) -> str:
    return f"\ntasks there: {listing}" if listing else "\nthere is no task in it"
