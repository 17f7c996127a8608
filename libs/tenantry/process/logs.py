"""Log set-up of the programs: structlog events and the records of stdlib logging go through one pipeline.

On a terminal a record is a coloured line for people, elsewhere a JSON object. One record is one line, always: line
breaks, escape sequences and whatever else could forge a line are escaped, in tracebacks as well. Secrets are redacted
last, after exceptions have become text, so that they cannot come in by a side door.
"""

import json
import logging
import os
import re
import sys
import threading
import traceback
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final, TextIO

import structlog
from structlog.typing import EventDict, ProcessorReturnValue, WrappedLogger
from typing_extensions import override

from tenantry.process.redaction import redact_fields

LEVELS: Final = ("debug", "info", "warning", "error")
_UNTERMINATED: Final = re.compile(
    # C0, DEL, C1, line and paragraph separator, bidirectional overrides, lone surrogates
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
# Libraries that report each step of their work at INFO.
_CHATTY: Final = ("alembic", "asyncio", "grpc", "sqlalchemy")


def configure_logging(level: str = "info", stream: TextIO | None = None, *, console: bool | None = None) -> None:
    """Send all log records of the process of at least `level` (one of LEVELS) to `stream`, by default stderr.

    `console` chooses coloured lines or JSON; None means coloured lines exactly when the stream is a terminal. Uncaught
    exceptions of the main thread, of other threads and of destructors become records too. May be called again, which
    replaces the set-up. Raises ValueError for an unknown level.
    """
    if level not in LEVELS:
        raise ValueError(f"{level!r} is not a log level; use one of {', '.join(LEVELS)}")
    target = sys.stderr if stream is None else stream
    for_people = target.isatty() if console is None else console
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderers: list[structlog.typing.Processor] = [_render_console(target)] if for_people else [_render_json]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.ExtraAdder(), *shared],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            _describe_exception,
            _redact,
            *renderers,
        ],
    )
    handler = _OneLineHandler(target)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _CHATTY:
        logging.getLogger(name).setLevel("DEBUG" if level == "debug" else "WARNING")
    logging.captureWarnings(capture=True)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_thread_failure
    sys.unraisablehook = _log_unraisable


class _OneLineHandler(logging.StreamHandler[TextIO]):
    """Writes one line a record; a record that cannot be written is reported without its content."""

    @override
    def handleError(self, record: logging.LogRecord) -> None:
        # The inherited method prints the arguments of the record, which nobody has redacted.
        error = sys.exc_info()[0]
        if error is None or issubclass(error, OSError):
            return
        line = {"event": "log record could not be written", "logger": str(record.name), "error": error.__name__}
        try:
            self.stream.write(json.dumps({**line, "source": f"{record.module}:{record.lineno}"}) + self.terminator)
            self.flush()
        except (OSError, ValueError):  # ValueError: the stream is closed
            return


def _describe_exception(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Turn `exc_info` into text without values of variables, and `stack_info` likewise."""
    info = event.pop("exc_info", None)
    if info is True:
        info = sys.exc_info()
    if isinstance(info, BaseException):
        info = (type(info), info, info.__traceback__)
    if isinstance(info, tuple) and info[0] is not None:
        event["exception"] = "".join(traceback.format_exception(*info)).rstrip("\n")
    if event.get("stack_info") is None:
        event.pop("stack_info", None)
    return event


def _redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    fields: Mapping[Any, object] = event
    return redact_fields(fields)


def _render_json(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    # ASCII output escapes every character that any reader takes for the end of a line.
    first = {name: event.pop(name) for name in ("timestamp", "level", "logger", "event") if name in event}
    return json.dumps({**first, **event}, ensure_ascii=True, separators=(",", ":"), default=repr)


def _render_console(target: TextIO) -> structlog.typing.Processor:
    colours = "NO_COLOR" not in os.environ and target.isatty()
    renderer = structlog.dev.ConsoleRenderer(
        colors=colours, pad_event_to=36, exception_formatter=structlog.dev.plain_traceback
    )

    def render(logger: WrappedLogger, method: str, event: EventDict) -> ProcessorReturnValue:
        escaped = {_escape(name): _escape_deep(value) for name, value in event.items()}
        # The renderer would print these over several lines.
        for name, shown in (("exception", "traceback"), ("stack_info", "stack_trace"), ("stack", "stack_trace")):
            if name in escaped:
                escaped[shown] = escaped.pop(name)
        return renderer(logger, method, escaped)

    return render


def _escape(text: str) -> str:
    return _UNTERMINATED.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def _escape_deep(value: object) -> object:
    if isinstance(value, str):
        return _escape(value)
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=True, default=repr)
    return value


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    structlog.get_logger("tenantry").critical("uncaught exception", exc_info=(kind, error, trace))


def _log_thread_failure(failure: threading.ExceptHookArgs) -> None:
    if failure.exc_value is None or issubclass(failure.exc_type, SystemExit):
        return
    structlog.get_logger("tenantry").critical(
        "uncaught exception in thread",
        thread=failure.thread.name if failure.thread else None,
        exc_info=(failure.exc_type, failure.exc_value, failure.exc_traceback),
    )


def _log_unraisable(failure: "sys.UnraisableHookArgs") -> None:
    if failure.exc_value is None:
        return
    structlog.get_logger("tenantry").error(
        "exception could not be raised",
        place=failure.err_msg or "",
        exc_info=(failure.exc_type, failure.exc_value, failure.exc_traceback),
    )
