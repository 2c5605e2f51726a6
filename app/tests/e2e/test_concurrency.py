"""Many at once on two servers of two workers: gapless, exactly once, in order on every socket."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from http import HTTPStatus

from harness.chat import ChatServer
from harness.checker import check
from harness.client import ChatClient
from harness.http import Api
from harness.raw import RawSocket
from harness.rooms import make_room
from harness.talk import new_seed

#: Both are one site, as behind a load balancer.
SITE = {"PUBLIC_URL": "https://chat.example"}
CLIENTS, ROOMS, EACH = 20, 5, 30


def test_twenty_people_on_four_workers(own_site: Callable[..., ChatServer]) -> None:
    seed = new_seed()
    servers = [own_site(SITE), own_site(SITE)]
    people = servers[0].people.add(*(f"player{n}" for n in range(CLIENTS)))
    rooms = [servers[0].people.group([p for i, p in enumerate(people) if i % ROOMS != r]) for r in range(ROOMS)]
    clients = [ChatClient([servers[n % 2], servers[1 - n % 2]], person, seed=seed) for n, person in enumerate(people)]
    for client in clients:
        client.start()
    doubled: list[tuple[str, int, int]] = []
    guard = threading.Lock()
    start = threading.Barrier(CLIENTS)

    def play(number: int) -> None:
        client = clients[number]
        mine = [room for r, room in enumerate(rooms) if number % ROOMS != r]
        other = Api(servers[1 - number % 2].address, origin=SITE["PUBLIC_URL"])
        other.cookies = dict(client.api.cookies)
        start.wait()
        for turn in range(EACH):
            room = client.random.choice(mine)
            body = f"{number}:{turn}"
            key = client.send(room, body)
            if turn % 3 == 0:  # the same message again, on another node, at the same time
                answer = other.post(f"/api/conversations/{room}/messages", {"client_id": key, "body": body})
                with guard:
                    doubled.append((key, answer.status, answer.json().get("seq", -1)))
            if turn % 10 == 9:  # and again on the socket
                client.frame(type="send", client_id=key, conversation_id=room, body=body)
            if turn == EACH // 2 and number % 4 == 0:
                client.drop()

    players = [threading.Thread(target=play, args=(n,)) for n in range(CLIENTS)]
    for player in players:
        player.start()
    for player in players:
        player.join(60)
        assert not player.is_alive()
    for client in clients:
        client.wait_acked(timeout=60)
    for number, client in enumerate(clients):
        for r, room in enumerate(rooms):
            if number % ROOMS != r:
                client.wait_seq(room, servers[0].people.last_seq(room), timeout=60)
    stored = servers[0].people.history(*rooms)
    for client in clients:
        client.close()
    verdict = check(stored, clients, ordered=False)
    print(verdict)
    verdict.assert_clean()
    assert len(stored) == CLIENTS * EACH
    assert {status for _, status, _ in doubled} <= {HTTPStatus.OK, HTTPStatus.CREATED}
    seqs = {row.client_id: row.seq for row in stored}
    assert all(seqs[key] == seq for key, _, seq in doubled), "the two doors gave different answers"


def test_an_answer_lost_on_the_way_is_asked_for_again(own_site: Callable[..., ChatServer]) -> None:
    """The connection is cut right after a send: committed or not, the repetition makes exactly one message of it."""
    server = own_site()
    people = server.people.add("cut1", "cut2")
    room = server.people.group(people)
    with ChatClient([server], people[0], max_wait=0.05) as alice, ChatClient([server], people[1]) as bob:
        for number in range(40):
            for part in range(3):
                alice.send(room, f"{number}.{part}")
            if number % 2:
                bob.wait_seq(room, 3 * number + 1)  # committed, and the answer perhaps still on its way
            alice.drop()
            alice.wait_online()
        alice.wait_acked()
        for client in (alice, bob):
            client.wait_seq(room, 120)
    repeated = sum(sent.attempts > 1 for sent in alice.sent.values())
    print(f"{repeated} of 120 were sent again")
    assert repeated > 10
    assert check(server.people.history(room), [alice, bob]).assert_clean().stored == 120


def test_one_message_raced_on_every_node_at_once(own_site: Callable[..., ChatServer]) -> None:
    """The same send on eight sockets and over HTTP at the same instant is one message, and everyone hears the same."""
    servers = [own_site(SITE), own_site(SITE)]
    room = make_room(servers[0])
    apis = []
    for server in servers:
        api = server.api()
        api.login(room.alice.username, room.alice.password).expect(200)
        apis.append(api)
    sockets = [RawSocket(servers[n % 2], apis[n % 2]) for n in range(8)]
    for socket in sockets:
        socket.resume()
    for turn in range(1, 11):
        key = str(uuid.uuid4())
        for socket in sockets:
            socket.send_json(type="send", client_id=key, conversation_id=room.id, body=f"race {turn}")
        acks = [socket.answer_to(key) for socket in sockets]
        assert all(ack == acks[0] for ack in acks), acks
        assert acks[0]["type"] == "ack" and acks[0]["seq"] == turn
    for socket in sockets:
        socket.send_json(type="send", client_id=str(uuid.uuid4()), conversation_id=room.id, body="end")
    for socket in sockets:
        socket.until(lambda f: f["type"] == "message" and f["seq"] == 18)
        assert [f["seq"] for f in socket.frames if f["type"] == "message"] == list(range(1, 19))
    assert len(servers[0].people.history(room.id)) == 18
