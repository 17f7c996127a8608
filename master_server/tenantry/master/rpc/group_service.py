"""`GroupService`: groups of users on the wire."""

from tenantry.master.domain.access import EVERYTHING
from tenantry.master.operations import groups
from tenantry.master.operations.clocks import Clocks
from tenantry.master.operations.committing import Committer
from tenantry.master.rpc.callers import ACTOR, VIEWER, Context
from tenantry.master.rpc.reading import StoreReader
from tenantry.transport.wire_values import to_timestamp
from tenantry.v1 import group_service_pb2 as pb
from tenantry.v1 import group_service_pb2_grpc


class GroupServicer(group_service_pb2_grpc.GroupServiceServicer):
    """Wire <-> `operations.groups`."""

    def __init__(self, committer: Committer, reader: StoreReader, clocks: Clocks) -> None:
        self._committer = committer
        self._reader = reader
        self._clocks = clocks

    async def CreateGroup(self, request: pb.CreateGroupRequest, context: Context) -> pb.CreateGroupResponse:
        actor, now_ms, wanted = ACTOR.get(), self._clocks.wall_ms(), request.group
        made = await self._committer.run(
            lambda transaction: groups.create_group(
                transaction, actor, wanted.name, wanted.description, wanted.external, now_ms
            )
        )
        return pb.CreateGroupResponse(group=_encode(made))

    async def ListGroups(self, request: pb.ListGroupsRequest, context: Context) -> pb.ListGroupsResponse:
        return pb.ListGroupsResponse(groups=map(_encode, await self._reader.run(groups.list_groups, EVERYTHING)))

    async def DeleteGroup(self, request: pb.DeleteGroupRequest, context: Context) -> pb.DeleteGroupResponse:
        actor, viewer, now_ms = ACTOR.get(), VIEWER.get(), self._clocks.wall_ms()
        await self._committer.run(
            lambda transaction: groups.delete_group(transaction, actor, viewer, request.name, now_ms)
        )
        return pb.DeleteGroupResponse()

    async def AddGroupMembers(self, request: pb.AddGroupMembersRequest, context: Context) -> pb.AddGroupMembersResponse:
        actor, viewer, now_ms = ACTOR.get(), VIEWER.get(), self._clocks.wall_ms()
        changed = await self._committer.run(
            lambda transaction: groups.add_members(transaction, actor, viewer, request.name, request.users, now_ms)
        )
        return pb.AddGroupMembersResponse(group=_encode(changed))

    async def RemoveGroupMembers(
        self, request: pb.RemoveGroupMembersRequest, context: Context
    ) -> pb.RemoveGroupMembersResponse:
        actor, viewer, now_ms = ACTOR.get(), VIEWER.get(), self._clocks.wall_ms()
        changed = await self._committer.run(
            lambda transaction: groups.remove_members(transaction, actor, viewer, request.name, request.users, now_ms)
        )
        return pb.RemoveGroupMembersResponse(group=_encode(changed))


def _encode(membership: groups.Membership) -> pb.Group:
    group = membership.group
    return pb.Group(
        name=group.name,
        description=group.description,
        external=group.external,
        members=[pb.GroupMember(user=name, external=external) for name, external in membership.members],
        create_time=to_timestamp(group.created_ms),
    )
