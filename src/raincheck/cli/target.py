"""Loads the app that TARGET names: ``module:app`` or ``path/to/file.py:app``."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import linecache
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from traceback import walk_tb
from types import ModuleType

from raincheck.app import App
from raincheck.core.errors import TargetError

__all__ = ["load"]

_FILE = re.compile(r"(?P<file>.+\.py)(:(?P<name>[^:]*))?")
_RAINCHECK = Path(__file__).parents[1]


def load(target: str) -> App:
    """Load the app that ``target`` names. ``:app`` is optional if the module has only one App.

    Raises `TargetError` if the module or file does not exist or fails, or the name is not an App.
    """
    if match := _FILE.fullmatch(target):
        module, name = _import_file(_existing(match["file"])), match["name"]
    else:
        module_name, _, name = target.partition(":")
        module = _import_module(module_name)
    return _get_app(module, name) if name else _get_only_app(module)


def folder_of(target: str) -> Path:
    """The folder with the files of the app that ``target`` names, without loading it.

    Raises `TargetError` if it is a file that does not exist.
    """
    if match := _FILE.fullmatch(target):
        return _root_and_name(_existing(match["file"]))[0]
    return Path.cwd()


def _existing(file: str) -> Path:
    path = Path(file).resolve()
    if not path.is_file():
        raise TargetError(f"the file {path} does not exist")
    return path


def _import_file(path: Path) -> ModuleType:
    """Import a file under the name that modules beside it use, if no other module has that name.

    This way ``import app`` beside ``app.py`` gets the same module, not a second App, and another
    process (`raincheck.worker.child`) finds the module again, by its name or by its file.
    """
    root, name = _root_and_name(path)
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    with _as_target_error(root):
        if _is_module_of(path, name):
            return importlib.import_module(name)
        digest = hashlib.blake2b(str(path).encode(), digest_size=4).hexdigest()
        return _execute(path, f"{path.stem}_{digest}")


def _root_and_name(path: Path) -> tuple[Path, str]:
    """The folder above the packages that contain a file, and the name of its module from there."""
    root, parts = path.parent, [path.stem]
    while (root / "__init__.py").is_file():
        root, parts = root.parent, [root.name, *parts]
    return root, ".".join(parts)


def _is_module_of(path: Path, name: str) -> bool:
    """Whether importing ``name`` imports this file, and not another one."""
    if not all(part.isidentifier() for part in name.split(".")):
        return False
    if name in sys.modules:
        origin = getattr(sys.modules[name], "__file__", None)
    else:
        importlib.invalidate_caches()
        spec = importlib.util.find_spec(name)
        origin = spec and spec.origin
    return origin is not None and Path(origin).resolve() == path


def _execute(path: Path, name: str) -> ModuleType:
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise TargetError(f"cannot load {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _import_module(name: str) -> ModuleType:
    here = Path.cwd()
    if not all(part.isidentifier() for part in name.split(".")):
        raise TargetError(f"{name!r} is not the name of a module. Use module:app or path/to/file.py:app.")
    if str(here) not in sys.path:
        sys.path.insert(0, str(here))
    with _as_target_error(here):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name and f"{name}.".startswith(f"{error.name}."):
                raise TargetError(
                    f"there is no module {error.name!r}, neither in this directory nor installed"
                ) from None
            raise


@contextmanager
def _as_target_error(root: Path) -> Iterator[None]:
    """Turn an exception of a module into a `TargetError` with its last line of code below ``root``."""
    try:
        yield
    except TargetError:
        raise
    except (Exception, SystemExit) as error:
        message = f"{type(error).__name__}: {error}"
        raise TargetError(f"the app cannot be loaded: {_location(error, root)}{message}") from error


def _location(error: BaseException, root: Path) -> str:
    if isinstance(error, SyntaxError):
        return ""  # its message has the location
    lines = [(Path(frame.f_code.co_filename), line) for frame, line in walk_tb(error.__traceback__)]
    user_lines = [(path, line) for path, line in lines if _is_user_code(path, root)]
    if not user_lines:
        return ""
    path, line = user_lines[-1]
    source = linecache.getline(str(path), line).strip()
    return f"{path}, line {line}:\n    {source}\n"


def _is_user_code(path: Path, root: Path) -> bool:
    return (
        path.is_relative_to(root)
        and not path.is_relative_to(_RAINCHECK)
        and "site-packages" not in path.parts
    )


def _get_app(module: ModuleType, name: str) -> App:
    value: object = module
    for part in name.split("."):
        if not hasattr(value, part):
            raise TargetError(f"{_label(module)} has no {name!r}. {_suggestion(module)}")
        value = getattr(value, part)
    if not isinstance(value, App):
        kind = type(value).__name__
        raise TargetError(
            f"{name!r} in {_label(module)} is not a raincheck.App (got {kind}). {_suggestion(module)}"
        )
    return value


def _get_only_app(module: ModuleType) -> App:
    apps = _apps(module)
    if not apps:
        raise TargetError(f"{_label(module)} has no App. {_suggestion(module)}")
    if len(set(map(id, apps.values()))) > 1:
        raise TargetError(f"{_label(module)} has more than one App. Append :NAME. {_suggestion(module)}")
    return next(iter(apps.values()))


def _apps(module: ModuleType) -> dict[str, App]:
    return {name: value for name, value in vars(module).items() if isinstance(value, App)}


def _suggestion(module: ModuleType) -> str:
    apps = _apps(module)
    return f"Its apps: {', '.join(apps)}." if apps else "Define one at its top level: app = raincheck.App()"


def _label(module: ModuleType) -> str:
    return getattr(module, "__file__", None) or module.__name__
