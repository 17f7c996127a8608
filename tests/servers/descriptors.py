"""The contract as data: every RPC and every field of its messages, so that no test forgets one."""

import importlib
import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import grpc.aio
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

import tenantry.v1

Path = tuple[FieldDescriptor, ...]


def _serialise(message: Message) -> bytes:
    return message.SerializeToString()


@dataclass(frozen=True)
class Rpc:
    """One method of the contract."""

    method: MethodDescriptor

    @property
    def path(self) -> str:
        """As it is called."""
        return f"/{self.method.containing_service.full_name}/{self.method.name}"

    @property
    def service(self) -> str:
        """The name of its service, without the package."""
        return self.method.containing_service.name

    def request(self) -> Message:
        """An empty request."""
        return GetMessageClass(self.method.input_type)()

    async def call(self, channel: grpc.aio.Channel, request: Message, metadata: Any = (), timeout: float = 60) -> Any:
        """Call it with one request; the first answer.

        A stream of requests stays empty: who is refused while the first is written gets gRPC's own error in place of the reason.
        """
        kind: Any = {
            (False, False): channel.unary_unary,
            (False, True): channel.unary_stream,
            (True, True): channel.stream_stream,
        }[self.method.client_streaming, self.method.server_streaming]
        stub: Any = kind(
            self.path,
            request_serializer=_serialise,
            response_deserializer=GetMessageClass(self.method.output_type).FromString,
        )
        if not self.method.server_streaming:
            return await stub(request, metadata=metadata, timeout=timeout)
        given = () if self.method.client_streaming else (request,)
        call = stub(*given, metadata=metadata, timeout=timeout)
        try:
            answer = await call.read()
            return None if answer is grpc.aio.EOF else answer
        finally:
            call.cancel()


def every_rpc() -> list[Rpc]:
    """All methods of tenantry.v1, by path."""
    found = []
    for module in pkgutil.iter_modules(tenantry.v1.__path__):
        if module.name.endswith("_pb2"):
            file = importlib.import_module(f"tenantry.v1.{module.name}").DESCRIPTOR
            found += [Rpc(method) for service in file.services_by_name.values() for method in service.methods]
    return sorted(found, key=lambda rpc: rpc.path)


def api_rpcs() -> list[Rpc]:
    """Those of the `api` listener that are for operators; to sign in, they need no token."""
    return [rpc for rpc in every_rpc() if rpc.service not in ("LinkService", "EnrolmentService", "TunnelRelayService")]


def string_fields(message: Descriptor, above: Path = ()) -> Iterator[Path]:
    """Every place in a message where a text can be, also in its parts, in lists and as keys of maps."""
    for field in message.fields:
        if field.type == FieldDescriptor.TYPE_STRING:
            yield (*above, field)
        elif field.message_type is not None and not field.message_type.full_name.startswith("google."):
            yield from string_fields(field.message_type, (*above, field))


def describe(path: Path) -> str:
    """A place for people."""
    return ".".join(field.name for field in path)


def put(message: Message, path: Path, value: str) -> None:
    """Write a text into a place; lists and maps on the way get one entry."""
    field, rest = path[0], path[1:]
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        # The key is the text; the value keeps its default but has to be there.
        entries = getattr(message, field.name)
        if field.message_type.fields_by_name["value"].message_type is None:
            entries[value] = ""
        else:
            entries[value].SetInParent()
    elif not rest:
        if field.is_repeated:
            getattr(message, field.name).append(value)
        else:
            setattr(message, field.name, value)
    else:
        part = getattr(message, field.name)
        put(part.add() if field.is_repeated else part, rest, value)
        if not field.is_repeated:
            part.SetInParent()


def read(message: Message, path: Path) -> str | None:
    """The text in a place; None where it is not there."""
    part: Any = message
    for field in path:
        part = getattr(part, field.name)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            return next(iter(part), None)
        if field.is_repeated:
            if not part:
                return None
            part = part[0]
    return str(part)
