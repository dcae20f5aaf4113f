"""The ports at which services begin to listen, from a machine that is played."""

from cgroup_preflight.engines.listeners import Listeners
from cgroup_preflight.up.listening import Listening
from tests.unit.engines.test_listeners import OWN, Machine

OTHER = "/b.slice/other.service"


def test_each_port_of_a_service_is_told_once_and_those_of_others_are_not():
    made, told, now = Machine(), [], [0.0]
    made.cgroups |= {OWN, OTHER, "/system.slice"}
    web, stranger = made.spawn("web", OWN), made.spawn("sshd", "/system.slice")
    listening = Listening(Listeners(made, made.observer()), lambda *place: told.append(place), lambda: now[0])

    def look():
        now[0] += 2
        listening.look(lambda: {"web": OWN, "other": OTHER})
        found, told[:] = list(told), []
        return found

    made.listen("127.0.0.1:8080", web)
    made.listen("127.0.0.1:22", stranger)
    assert look() == [("web", "127.0.0.1", 8080)]
    assert look() == []
    made.listen("127.0.0.1:8081", web)
    # Not more often than once a second.
    listening.look(lambda: {"web": OWN})
    assert told == []
    assert look() == [("web", "127.0.0.1", 8081)]
    other = made.spawn("other", OTHER)
    made.listen("127.0.0.1:9090", other)
    assert look() == [("other", "127.0.0.1", 9090)]
