"""Tracebacks as text, for the log and for the journal of a job.

A child process sends this text to its parent: an exception loses its traceback when it is sent.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Sequence
from itertools import dropwhile
from pathlib import Path
from traceback import FrameSummary, StackSummary, TracebackException, walk_stack

from raincheck.core.errors import RaincheckError
from raincheck.core.text import cut_text

_PACKAGE = f"{Path(__file__).parents[1]}{os.sep}"
_DEMO = f"{_PACKAGE}cli{os.sep}demo{os.sep}"
_ASYNCIO = f"{Path(asyncio.__file__).parent}{os.sep}"


def format_traceback(error: BaseException) -> str:
    """The traceback of an exception as Python prints it, without the frames of raincheck.

    Contains causes, contexts, notes and the exceptions of a group. At most `TRACEBACK_LIMIT` bytes of valid
    UTF-8. Empty for an error of raincheck's own that no other code led to: its message says all. Never
    raises.
    """
    try:
        formatted = TracebackException(
            type(error), error, error.__traceback__, lookup_lines=False, compact=True
        )
        if not _fold(formatted) and isinstance(error, RaincheckError):
            return ""
        return cut_text("".join(formatted.format()))
    except Exception as wrong:  # noqa: BLE001 - raised by the exception's own class, or it is nested too deeply
        return f"the traceback cannot be read: {type(wrong).__name__}"


def format_stack(thread: int) -> str:
    """Where the function is that a thread calls, in the form of a traceback; empty if it calls none."""
    frame = sys._current_frames().get(thread)
    stack = [] if frame is None else StackSummary.extract(walk_stack(frame), lookup_lines=False)
    frames = _without_own(stack[::-1])
    if not frames:
        return ""
    return cut_text("Stack (most recent call last):\n" + "".join(StackSummary.from_list(frames).format()))


def _fold(formatted: TracebackException) -> bool:
    """Remove the frames of raincheck, also from causes, contexts and groups.

    False: there are no others. Then all stay, as they may show a defect.
    """
    parts = [formatted]
    for part in parts:  # it grows
        parts += [each for each in (part.__cause__, part.__context__, *(part.exceptions or ())) if each]
    stacks = [_without_own(part.stack) for part in parts]
    if not any(stacks):
        return False
    for part, frames in zip(parts, stacks, strict=True):
        part.stack = StackSummary.from_list(frames)
    return True


def _without_own(frames: Sequence[FrameSummary]) -> list[FrameSummary]:
    return [frame for frame in dropwhile(_is_caller, frames) if not _is_own(frame)]


def _is_own(frame: FrameSummary) -> bool:
    return frame.filename.startswith(_PACKAGE) and not frame.filename.startswith(_DEMO)


def _is_caller(frame: FrameSummary) -> bool:
    """Whether a frame at the beginning of a stack only leads to the function."""
    return _is_own(frame) or frame.filename.startswith(_ASYNCIO) or frame.filename == threading.__file__
