"""Windows of rules on the wire."""

from tenantry.detection.aggregates import Aggregate, Function
from tenantry.master.domain.rule_windows import DEFAULT_INTERVAL_MS, DEFAULT_LATENESS_MS, RuleWindow
from tenantry.transport.wire_values import WireEnum, from_duration, to_duration
from tenantry.v1 import rule_service_pb2 as pb

DEFAULT_PERCENTILE = 95.0
FUNCTIONS = WireEnum(Function, pb.RuleFunction.Value, "RULE_FUNCTION")


def encode_window(window: RuleWindow | None) -> pb.RuleWindow | None:
    """The window of a rule, if it has one."""
    if window is None:
        return None
    return pb.RuleWindow(
        filter=window.filter,
        values=[
            pb.RuleValue(
                name=value.name,
                function=FUNCTIONS.number(value.function),
                field=value.field,
                percentile=value.percentile if value.function is Function.PRC else 0.0,
            )
            for value in window.values
        ],
        judged=window.judged,
        categories=window.categories,
        length=to_duration(window.length_ms),
        interval=to_duration(window.interval_ms),
        lateness=to_duration(window.lateness_ms),
        output_filter=window.output_filter,
    )


def decode_window(message: pb.RuleWindow) -> RuleWindow:
    """What a request says of a window, unchecked where the domain checks it. Raises FieldInvalid."""
    return RuleWindow(
        values=tuple(
            Aggregate(
                value.name,
                FUNCTIONS.member(value.function, Function),
                value.field,
                value.percentile or DEFAULT_PERCENTILE,
            )
            for value in message.values
        ),
        length_ms=from_duration(message.length),
        interval_ms=from_duration(message.interval) if message.HasField("interval") else DEFAULT_INTERVAL_MS,
        lateness_ms=from_duration(message.lateness) if message.HasField("lateness") else DEFAULT_LATENESS_MS,
        filter=message.filter,
        categories=tuple(message.categories),
        judged=message.judged,
        output_filter=message.output_filter,
    )
