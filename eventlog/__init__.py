"""Durable, replayable execution for CrewAI: every event in one log, everything else derived from it.

Importing this package imports neither CrewAI nor anything slow: names are loaded when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eventlog.backup import Backup
    from eventlog.capture.tools import idempotency_key
    from eventlog.compaction.report import CompactionReport
    from eventlog.errors import (
        AmbiguousCursorError,
        AppendError,
        BranchExistsError,
        BranchNameError,
        BranchNotFoundError,
        CaptureError,
        ChainKeyError,
        CipherKeyError,
        CompactedError,
        CompactionError,
        CursorNotFoundError,
        EditError,
        EncryptedLogError,
        EventFormatError,
        EventLogError,
        ExecutionNotFoundError,
        FeatureIncompleteError,
        FeatureNotFoundError,
        ForgetError,
        FormatTooNewError,
        ItemNotFoundError,
        LeaseLostError,
        LogClosedError,
        LogDamagedError,
        LogMovedError,
        LogNotFoundError,
        LogOpenError,
        LogUnwritableError,
        MemoryNotFoundError,
        MemoryScopeError,
        MemoryValueError,
        NotAnEventLogError,
        NotEncryptedError,
        NotFoundError,
        RunBusyError,
        RunNotFoundError,
        SequenceConflictError,
        SessionNotFoundError,
        StaleStepError,
        StepBlockedError,
        StepBusyError,
        StepError,
        StepOrderError,
        TestStepError,
    )
    from eventlog.forgetting.report import ForgetReport
    from eventlog.ledger.calls import StepOptions
    from eventlog.ledger.feature import Feature
    from eventlog.ledger.features import FeatureInfo
    from eventlog.ledger.ledger import Ledger
    from eventlog.ledger.memories import MemoryChange, MemoryEntry, MemoryMatch
    from eventlog.ledger.memory import Memory
    from eventlog.ledger.session import Item, Note, Session
    from eventlog.ledger.tools import MemorySaveTool, MemorySearchTool
    from eventlog.listener import EventLogListener
    from eventlog.log import Log, Snapshot
    from eventlog.log import open_log as open  # noqa: A004 - the name users expect: eventlog.open(path)
    from eventlog.provider import EventLogProvider
    from eventlog.record import BranchInfo, Event, ExecutionInfo, RunInfo, StoredEvent
    from eventlog.redact import Redaction
    from eventlog.repair.repair import RepairError, repair_log
    from eventlog.repair.report import RepairReport
    from eventlog.replay.projection import Projection, projection
    from eventlog.replay.state import RunState
    from eventlog.resume.divergence import DivergedError, Divergence, RunTakenOverError, ToolInFlightError
    from eventlog.resume.outcome import Reexecution
    from eventlog.run import Run
    from eventlog.verifying.report import VerifyReport
    from eventlog.writer import Options, Status

__version__ = "0.1.0"

_HOMES = {
    "backup": "Backup",
    "capture.tools": "idempotency_key",
    "compaction.report": "CompactionReport",
    "errors": (
        "AmbiguousCursorError AppendError BranchExistsError BranchNameError BranchNotFoundError CaptureError"
        " ChainKeyError CipherKeyError CompactedError CompactionError CursorNotFoundError EditError EncryptedLogError"
        " EventFormatError"
        " EventLogError ExecutionNotFoundError ForgetError FormatTooNewError LeaseLostError LogClosedError"
        " LogDamagedError LogMovedError LogNotFoundError LogOpenError"
        " LogUnwritableError MemoryNotFoundError MemoryScopeError MemoryValueError"
        " NotAnEventLogError NotEncryptedError NotFoundError RunBusyError RunNotFoundError"
        " ItemNotFoundError SequenceConflictError"
        " StaleStepError StepBlockedError StepBusyError StepError StepOrderError"
        " FeatureIncompleteError FeatureNotFoundError SessionNotFoundError TestStepError"
    ),
    "forgetting.report": "ForgetReport",
    "ledger.calls": "StepOptions",
    "ledger.feature": "Feature",
    "ledger.features": "FeatureInfo",
    "ledger.ledger": "Ledger",
    "ledger.memories": "MemoryChange MemoryEntry MemoryMatch",
    "ledger.memory": "Memory",
    "ledger.tools": "MemorySaveTool MemorySearchTool",
    "ledger.session": "Item Note Session",
    "listener": "EventLogListener",
    "log": "Log Snapshot open",
    "provider": "EventLogProvider",
    "record": "BranchInfo Event ExecutionInfo RunInfo StoredEvent",
    "redact": "Redaction",
    "repair.repair": "RepairError repair_log",
    "repair.report": "RepairReport",
    "replay.projection": "Projection projection",
    "replay.state": "RunState",
    "resume.divergence": "DivergedError Divergence RunTakenOverError ToolInFlightError",
    "resume.outcome": "Reexecution",
    "run": "Run",
    "verifying.report": "VerifyReport",
    "writer": "Options Status",
}
_MODULE_OF = {name: module for module, names in _HOMES.items() for name in names.split()}

__all__ = [  # sorted by name; tested against what can be imported
    "AmbiguousCursorError",
    "AppendError",
    "Backup",
    "BranchExistsError",
    "BranchInfo",
    "BranchNameError",
    "BranchNotFoundError",
    "CaptureError",
    "ChainKeyError",
    "CipherKeyError",
    "CompactedError",
    "CompactionError",
    "CompactionReport",
    "CursorNotFoundError",
    "DivergedError",
    "Divergence",
    "EditError",
    "EncryptedLogError",
    "Event",
    "EventFormatError",
    "EventLogError",
    "EventLogListener",
    "EventLogProvider",
    "ExecutionInfo",
    "ExecutionNotFoundError",
    "Feature",
    "FeatureIncompleteError",
    "FeatureInfo",
    "FeatureNotFoundError",
    "ForgetError",
    "ForgetReport",
    "FormatTooNewError",
    "Item",
    "ItemNotFoundError",
    "LeaseLostError",
    "Ledger",
    "Log",
    "LogClosedError",
    "LogDamagedError",
    "LogMovedError",
    "LogNotFoundError",
    "LogOpenError",
    "LogUnwritableError",
    "Memory",
    "MemoryChange",
    "MemoryEntry",
    "MemoryMatch",
    "MemoryNotFoundError",
    "MemorySaveTool",
    "MemoryScopeError",
    "MemorySearchTool",
    "MemoryValueError",
    "NotAnEventLogError",
    "NotEncryptedError",
    "NotFoundError",
    "Note",
    "Options",
    "Projection",
    "Redaction",
    "Reexecution",
    "RepairError",
    "RepairReport",
    "Run",
    "RunBusyError",
    "RunInfo",
    "RunNotFoundError",
    "RunState",
    "RunTakenOverError",
    "SequenceConflictError",
    "Session",
    "SessionNotFoundError",
    "Snapshot",
    "StaleStepError",
    "Status",
    "StepBlockedError",
    "StepBusyError",
    "StepError",
    "StepOptions",
    "StepOrderError",
    "StoredEvent",
    "TestStepError",
    "ToolInFlightError",
    "VerifyReport",
    "idempotency_key",
    "open",
    "projection",
    "repair_log",
]


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used."""
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module 'eventlog' has no attribute {name!r}")
    value = getattr(import_module(f"eventlog.{module}"), "open_log" if name == "open" else name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Public names, for completion."""
    return sorted([*__all__, "__version__"])
