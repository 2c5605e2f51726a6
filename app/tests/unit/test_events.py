"""The frames that are encoded without their model say exactly what the model says."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from uuid import UUID

from hypothesis import example, given
from hypothesis import strategies as st

from hockey_hub_chat import events

IDS = st.integers(1, 2**53 - 1)
TIMES = st.datetimes(datetime(1970, 1, 1), datetime(9999, 1, 1), timezones=st.just(timezone.utc))
BODIES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
WHOLE_SECOND = datetime(2026, 1, 1, tzinfo=timezone.utc)


@given(IDS, IDS, IDS, st.uuids(), BODIES, TIMES)
@example(1, 1, 1, UUID(int=0), 'quotes " \\ / and </script>', WHOLE_SECOND)
@example(1, 2**53 - 1, 1, UUID(int=2**128 - 1), "\x01\x08\x0c\n\r\t\x1f\x7f\x80\u2028\u2029", WHOLE_SECOND)
@example(1, 1, 1, UUID(int=1), "é 🏒 \ufeff\U0010ffff", WHOLE_SECOND + timedelta(microseconds=120))
def test_a_message_is_encoded_as_its_model_would_be(
    conversation_id: int, seq: int, sender_id: int, client_id: UUID, body: str, created_at: datetime
) -> None:
    encoded = events.message_json(conversation_id, seq, sender_id, client_id, body, created_at)
    model = events.MessageSent(
        conversation_id=conversation_id,
        seq=seq,
        sender_id=sender_id,
        client_id=client_id,
        body=body,
        created_at=created_at,
    )
    assert encoded.decode() == model.model_dump_json()


@given(st.uuids(), IDS, IDS, TIMES)
def test_an_ack_is_encoded_as_its_model_would_be(
    client_id: UUID, conversation_id: int, seq: int, created_at: datetime
) -> None:
    model = events.Ack(client_id=client_id, conversation_id=conversation_id, seq=seq, created_at=created_at)
    assert events.ack_json(client_id, conversation_id, seq, created_at).decode() == model.model_dump_json()


@given(IDS, TIMES, st.integers(1, 600))
def test_a_greeting_is_encoded_as_its_model_would_be(user_id: int, server_time: datetime, heartbeat: int) -> None:
    model = events.Hello(user_id=user_id, server_time=server_time, heartbeat_seconds=heartbeat)
    assert events.hello_json(user_id, server_time, heartbeat).decode() == model.model_dump_json()
