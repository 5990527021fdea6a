"""TARGET: where an app is, as ``module:app`` or ``path/to/file.py:app``, and how to get it."""

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
from raincheck.errors import TargetError

__all__ = ["load"]

_FILE = re.compile(r"(?P<file>.+\.py)(:(?P<name>[^:]*))?")
_OURS = Path(__file__).parents[1]


def load(target: str) -> App:
    """The app that ``target`` names; ``:app`` may be left out if its module has one App only.

    Raises `TargetError`: there is no such module or file, it fails, or what it names is no App.
    """
    if match := _FILE.fullmatch(target):
        module, name = _from_file(Path(match["file"])), match["name"]
    else:
        place, _, name = target.partition(":")
        module = _from_name(place)
    return _named(module, name) if name else _only(module)


def _from_file(path: Path) -> ModuleType:
    """The module in a file, by the name that its neighbours know it by, if that is free.

    So ``import app`` beside ``app.py`` finds this very module, not a second App; and another process
    (`raincheck.worker.child`) finds it again by its name, or else by its file.
    """
    path = path.resolve()
    if not path.is_file():
        raise TargetError(f"there is no file {path}")
    root, name = _place(path)
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    with _blaming(root):
        if _leads_to(path, name):
            return importlib.import_module(name)
        digest = hashlib.blake2b(str(path).encode(), digest_size=4).hexdigest()
        return _execute(path, f"{path.stem}_{digest}")


def _place(path: Path) -> tuple[Path, str]:
    """The folder to import a file from, and its name there: both are above the packages it is in."""
    root, parts = path.parent, [path.stem]
    while (root / "__init__.py").is_file():
        root, parts = root.parent, [root.name, *parts]
    return root, ".".join(parts)


def _leads_to(path: Path, name: str) -> bool:
    """Whether importing ``name`` gives the file: no other module is known by it."""
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
        raise TargetError(f"{path} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _from_name(name: str) -> ModuleType:
    here = Path.cwd()
    if not all(part.isidentifier() for part in name.split(".")):
        raise TargetError(f"{name!r} names no module; give module:app or path/to/file.py:app")
    if str(here) not in sys.path:
        sys.path.insert(0, str(here))
    with _blaming(here):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name and f"{name}.".startswith(f"{error.name}."):
                raise TargetError(f"there is no module {error.name!r}, here or installed") from None
            raise


@contextmanager
def _blaming(root: Path) -> Iterator[None]:
    """Make what a module raises a `TargetError` that says where, below ``root`` if that can be told."""
    try:
        yield
    except TargetError:
        raise
    except (Exception, SystemExit) as error:
        what = f"{type(error).__name__}: {error}"
        raise TargetError(f"it cannot be loaded: {_where(error, root)}{what}") from error


def _where(error: BaseException, root: Path) -> str:
    if isinstance(error, SyntaxError):
        return ""  # it says where itself
    places = [(Path(frame.f_code.co_filename), line) for frame, line in walk_tb(error.__traceback__)]
    theirs = [place for place in places if _is_theirs(place[0], root)]
    if not theirs:
        return ""
    path, line = theirs[-1]
    source = linecache.getline(str(path), line).strip()
    return f"{path}, line {line}:\n    {source}\n"


def _is_theirs(path: Path, root: Path) -> bool:
    return path.is_relative_to(root) and not path.is_relative_to(_OURS) and "site-packages" not in path.parts


def _named(module: ModuleType, name: str) -> App:
    found: object = module
    for part in name.split("."):
        if not hasattr(found, part):
            raise TargetError(f"{_label(module)} has no {name!r}; {_offer(module)}")
        found = getattr(found, part)
    if not isinstance(found, App):
        raise TargetError(
            f"{name!r} in {_label(module)} is no raincheck.App but {type(found).__name__}; {_offer(module)}"
        )
    return found


def _only(module: ModuleType) -> App:
    apps = _apps(module)
    if len(set(map(id, apps.values()))) != 1:
        raise TargetError(f"say which app of {_label(module)} is meant; {_offer(module)}")
    return next(iter(apps.values()))


def _apps(module: ModuleType) -> dict[str, App]:
    return {name: value for name, value in vars(module).items() if isinstance(value, App)}


def _offer(module: ModuleType) -> str:
    apps = _apps(module)
    return f"its apps: {', '.join(apps)}" if apps else "it has no App at its top level: app = raincheck.App()"


def _label(module: ModuleType) -> str:
    return getattr(module, "__file__", None) or module.__name__
