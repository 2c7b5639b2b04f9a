"""Edges that are here and the devices below each: a newer session takes over, an older one takes nothing away."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcore.core.errors import JoinRefused
from fedcore.protos.values import Join, Role
from fedcore.server.members.edge_registry import EdgeRegistry
from fedcore.server.members.sessions import RelayedSession, Session
from tests.server.members.test_admission import JOIN

EDGE = replace(JOIN, role=Role.EDGE, name="north", device_uuid="u1", profile=None, address="north:1")


def edge_join(name: str = "north", epoch: int = 1, uuid: str = "u1", address: str = "north:1") -> Join:
    return replace(EDGE, name=name, epoch=epoch, device_uuid=uuid, address=address)


def register(edges: EdgeRegistry, join: Join) -> tuple[Session, tuple[RelayedSession, ...]]:
    session = Session(join)
    return session, edges.register(session)


def relayed(edge: Session, name: str = "ada", epoch: int = 1) -> RelayedSession:
    return RelayedSession(replace(JOIN, name=name, epoch=epoch), edge)


def test_devices_are_found_below_their_edge_alone() -> None:
    edges = EdgeRegistry()
    north, south = register(edges, edge_join())[0], register(edges, edge_join("south"))[0]
    ada, bob = relayed(north), relayed(south, "bob")
    for each in (ada, bob):
        edges.add_device(each)
    assert edges.device_below(north, "ada") is ada
    assert edges.device_below(south, "ada") is None and edges.device_below(north, "bob") is None
    assert edges.devices_below(north) == (ada,) and edges.find("north") is north and edges.find("west") is None
    assert set(edges) == {north, south}


def test_a_newer_session_takes_over_and_hands_its_orphans_out() -> None:
    edges = EdgeRegistry()
    older, _ = register(edges, edge_join(epoch=1))
    ada = relayed(older)
    edges.add_device(ada)
    newer, orphans = register(edges, edge_join(epoch=2))
    assert orphans == (ada,) and older.outbox.get_nowait() is None
    assert edges.is_current(newer) and not edges.is_current(older) and edges.devices_below(newer) == ()
    edges.add_device(relayed(newer))
    assert edges.remove(older) == () and edges.devices_below(older) == (), "the devices are the newer session's"
    assert len(edges.devices_below(newer)) == 1 and edges.device_below(older, "ada") is None


def test_an_edge_that_leaves_takes_its_devices_along_once() -> None:
    edges = EdgeRegistry()
    north, _ = register(edges, edge_join())
    edges.add_device(relayed(north))
    assert [each.name for each in edges.remove(north)] == ["ada"]
    assert edges.remove(north) == () and list(edges) == [] and edges.parents() == ()


def test_two_edges_of_one_name_and_stale_sessions_are_refused() -> None:
    edges = EdgeRegistry()
    north, _ = register(edges, edge_join(epoch=3))
    with pytest.raises(JoinRefused, match="another device named north is connected"):
        register(edges, edge_join(uuid="u2", epoch=9))
    with pytest.raises(JoinRefused, match="this one is stale"):
        register(edges, edge_join(epoch=3))
    assert edges.find("north") is north
    edges.remove(north)
    assert register(edges, edge_join(uuid="u2"))[1] == ()


def test_only_the_same_device_is_dropped() -> None:
    edges = EdgeRegistry()
    north, _ = register(edges, edge_join())
    older, newer = relayed(north, epoch=1), relayed(north, epoch=2)
    edges.add_device(older)
    edges.add_device(newer)
    edges.drop_device(older)
    assert edges.devices_below(north) == (newer,)
    edges.drop_device(newer)
    edges.drop_device(newer)
    edges.remove(north)
    edges.drop_device(newer)
    assert edges.devices_below(north) == ()


def test_placement_sees_open_edges_with_an_address() -> None:
    edges = EdgeRegistry()
    north, south = register(edges, edge_join())[0], register(edges, edge_join("south", address=""))[0]
    edges.add_device(relayed(north))
    edges.note_blobs(north, ["b", "a", "a"])
    edges.note_blobs(south, ["a"])
    (parent,) = edges.parents()
    assert (parent.address, parent.holds, parent.devices) == ("north:1", frozenset("ab"), 1)
    newer, _ = register(edges, edge_join(epoch=2, address="north:2"))
    edges.note_blobs(north, ["c"])  # the word of a session that is over
    assert [(each.address, each.holds, each.devices) for each in edges.parents()] == [("north:2", frozenset(), 0)]
    assert edges.is_current(newer)


@given(
    moves=st.lists(
        st.tuples(st.sampled_from(["join", "leave", "put", "drop"]), st.sampled_from("ns"), st.integers(0, 2))
    )
)
def test_every_relayed_device_is_below_an_open_edge(moves: list[tuple[str, str, int]]) -> None:
    edges, epochs = EdgeRegistry(), {"n": 0, "s": 0}
    for kind, name, number in moves:
        session = edges.find(name)
        if kind == "join":
            epochs[name] += 1
            register(edges, edge_join(name, epochs[name]))
        elif session is not None and kind == "leave":
            assert all(each.stream is session for each in edges.remove(session))
        elif session is not None and kind == "put":
            edges.add_device(relayed(session, f"d{number}"))
        elif session is not None and (held := edges.device_below(session, f"d{number}")) is not None:
            edges.drop_device(held)
        for each in edges:
            assert edges.is_current(each) and all(one.stream is each for one in edges.devices_below(each))
