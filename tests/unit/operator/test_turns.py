"""A change of an Engine reaches its variants one after another, by what their statuses say."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roundhouse_operator.core.kinds import DEPLOYMENT, VARIANT, Key
from tests.unit.operator.fleet import IMAGE_1, IMAGE_2, IMAGE_3, KWS, Fleet, fail
from tests.unit.operator.samples import engine, variant
from tests.unit.operator.worlds import NAMESPACE, conditions, message

NAMES = [f"kws-{number:02}" for number in range(5)]


def stopped() -> Fleet:
    """A change of the engine went wrong on the first variant; the others wait."""
    fleet = Fleet(*NAMES)
    fleet.edit_engine(IMAGE_2)
    fleet.passes()
    fail(fleet, NAMES[0], IMAGE_2)
    fleet.passes()
    fleet.changed.clear()
    return fleet


def test_variants_follow_one_after_another_in_order() -> None:
    fleet = Fleet(*NAMES)
    fleet.changed.clear()
    fleet.edit_engine(IMAGE_2)
    for done, name in enumerate(NAMES):
        fleet.passes()
        assert fleet.changed == NAMES[: done + 1]
        assert fleet.up_to_date(name) == ("False", "RollingOut")
        assert {fleet.up_to_date(other)[1] for other in NAMES[done + 1 :]} <= {"WaitingForTurn"}
        assert {fleet.up_to_date(other)[0] for other in NAMES[:done]} <= {"True"}
        fleet.roll()
    fleet.settle()
    assert fleet.images() == [IMAGE_2] * 5
    assert conditions(fleet.engine())["UpToDate"] == ("True", "RolledOut")


def test_who_waits_tells_it_in_the_pass_that_sees_the_change() -> None:
    fleet = Fleet(*NAMES)
    fleet.edit_engine(IMAGE_2)
    assert conditions(fleet.engine())["UpToDate"] == ("False", "RollingOut")
    fleet.due.remove(KWS)
    fleet.step()
    assert fleet.up_to_date("kws-00") == ("False", "WaitingForTurn")
    waiting = fleet.live[Key(VARIANT, NAMESPACE, "kws-00")]["status"]
    assert waiting["rollout"]["turn"] == "Waiting"
    assert waiting["engine"]["generation"] == 1, "what it was made from"
    assert conditions(waiting)["Ready"] == ("True", "Serving")
    assert "Degraded" not in conditions(waiting)


def test_as_many_as_are_allowed_change_at_once() -> None:
    fleet = Fleet(*NAMES, rollout={"maxConcurrent": 2})
    fleet.changed.clear()
    fleet.edit_engine(IMAGE_2)
    fleet.passes()
    assert fleet.changed == NAMES[:2]
    fleet.roll(but=[NAMES[0]])
    fleet.passes()
    assert fleet.changed == NAMES[:3]


def test_it_stops_where_it_goes_wrong_and_goes_on_from_there() -> None:
    fleet = Fleet(*NAMES)
    fleet.edit_engine(IMAGE_2)
    fleet.passes()
    fleet.roll()
    fleet.passes()
    fail(fleet, NAMES[1], IMAGE_2)
    fleet.passes()
    assert fleet.up_to_date(NAMES[1]) == ("False", "ImagePull")
    assert {fleet.up_to_date(name) for name in NAMES[2:]} == {("False", "RolloutPaused")}
    status = fleet.live[Key(VARIANT, NAMESPACE, NAMES[4])]["status"]
    assert "'kws-01'" in message(status, "UpToDate")
    told = fleet.engine()
    assert conditions(told)["UpToDate"] == ("False", "RolloutPaused")
    assert "'kws-01', which fails with it (ImagePull); 3 of 5 variants wait" in message(told, "UpToDate")
    assert conditions(told)["Degraded"] == ("True", "RolloutPaused")
    fleet.changed.clear()
    fleet.restart()
    fleet.passes()
    assert fleet.changed == [], "a restart goes no further"

    fleet.edit_engine(IMAGE_3)
    fleet.passes()
    assert fleet.changed == [NAMES[1]], "the one that failed comes first"
    fleet.settle()
    assert fleet.images() == [IMAGE_3] * 5
    assert fleet.changed[1:] == [NAMES[0], *NAMES[2:]]


def test_a_person_who_restarts_one_that_waits_does_not_bring_it_the_change_that_went_wrong() -> None:
    """With `Recreate` nothing of it is ready for a while, which is not the same as having nothing to lose."""
    fleet = stopped()
    fleet.report(
        NAMES[3],
        replicas=1,
        updatedReplicas=1,
        readyReplicas=0,
        conditions=[{"type": "Progressing", "status": "True", "reason": "ReplicaSetUpdated"}],
    )
    fleet.passes()
    assert fleet.changed == []
    assert fleet.up_to_date(NAMES[3]) == ("False", "RolloutPaused")


def test_taking_the_change_back_changes_only_where_it_went_wrong() -> None:
    fleet = stopped()
    fleet.edit_engine(IMAGE_1)
    fleet.settle()
    assert fleet.changed == [NAMES[0]]
    assert {fleet.up_to_date(name)[0] for name in NAMES} == {"True"}


def test_a_variants_own_edit_waits_for_nobody() -> None:
    fleet = stopped()
    fleet.edit(NAMES[3], args=["--more"])
    fleet.passes()
    assert fleet.changed == [NAMES[3]]


def test_a_scaler_does_not_make_a_variant_jump_the_queue() -> None:
    fleet = Fleet(*NAMES)
    fleet.edit_engine(IMAGE_2)
    fleet.passes()
    fleet.edit(NAMES[3], replicas=3)
    fleet.passes()
    live = fleet.live[Key(DEPLOYMENT, NAMESPACE, NAMES[3])]
    assert live["spec"]["replicas"] == 3
    assert fleet.image(NAMES[3]) == IMAGE_1
    assert fleet.up_to_date(NAMES[3]) == ("False", "WaitingForTurn")


def test_what_has_nothing_to_lose_waits_for_nobody() -> None:
    """At zero, or never got ready: nobody is served by it."""
    fleet = Fleet(*NAMES)
    fleet.edit(NAMES[3], replicas=0)
    fleet.put(variant("new"))
    fleet.passes()
    fleet.roll(but=["new"])
    fleet.passes()
    fleet.changed.clear()
    fleet.edit_engine(IMAGE_2)
    fleet.passes()
    assert fleet.changed == [NAMES[3], "new", NAMES[0]]


def test_one_that_answers_nobody_is_first_and_stops_nobody() -> None:
    fleet = Fleet(*NAMES)
    fleet.report(
        NAMES[4],
        replicas=1,
        updatedReplicas=1,
        readyReplicas=0,
        conditions=[{"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"}],
    )
    fleet.passes()
    fleet.changed.clear()
    fleet.edit_engine(IMAGE_2)
    fleet.passes()
    assert fleet.changed == [NAMES[4], NAMES[0]]


def test_a_change_that_concerns_no_pod_is_there_at_once() -> None:
    fleet = Fleet(*NAMES)
    fleet.changed.clear()
    told = engine(workload={"image": IMAGE_1}, capabilities={"languages": ["en"]})
    fleet.put({**told, "metadata": {"name": "kws", "generation": next(fleet.generation)}})
    fleet.passes()
    assert fleet.changed == []
    assert {fleet.up_to_date(name)[0] for name in NAMES} == {"True"}
    assert fleet.live[Key(VARIANT, NAMESPACE, NAMES[0])]["status"]["engine"]["generation"] == 2


def test_restarts_by_annotation() -> None:
    fleet = Fleet(*NAMES)
    fleet.changed.clear()
    fleet.edit(NAMES[2], generation=1, annotations={"roundhouse.dev/restartedAt": "now"})
    fleet.settle()
    assert fleet.changed == [NAMES[2]]
    fleet.edit(NAMES[2], generation=1)
    fleet.settle()
    assert fleet.changed == [NAMES[2]], "to take the annotation away restarts nothing"
    fleet.changed.clear()
    fleet.edit_engine(IMAGE_1, **{"roundhouse.dev/restartedAt": "now"})
    fleet.passes()
    assert fleet.changed == NAMES[:1], "one after another"
    fleet.settle()
    assert fleet.changed == NAMES


def test_one_that_is_deleted_or_suspended_stops_nobody() -> None:
    fleet = Fleet(*NAMES)
    fleet.edit_engine(IMAGE_2)
    fleet.passes()
    fail(fleet, NAMES[0], IMAGE_2)
    fleet.passes()
    fleet.edit(NAMES[0], suspend=True)
    fleet.settle()
    assert fleet.images() == [IMAGE_2] * 5


@settings(deadline=None, max_examples=12)
@given(st.data(), st.integers(1, 3))
def test_never_more_at_once_than_allowed_whatever_the_order_and_however_often_it_is_restarted(
    data: st.DataObject, most: int
) -> None:
    names = NAMES[:4]
    fleet = Fleet(*names, rollout={"maxConcurrent": most})
    fleet.changed.clear()
    fleet.edit_engine(IMAGE_2)
    for _ in range(400):
        if len(fleet.due) and data.draw(st.booleans()):
            fleet.step(data.draw(st.integers(0, 9)))
        elif data.draw(st.integers(0, 9)) == 0:
            fleet.restart()
        elif fleet.due:
            fleet.step()
        in_flight = [
            name for name in fleet.changed if fleet.up_to_date(name)[0] == "False" or fleet.rolling(name)
        ]
        assert len(in_flight) <= most
        if not fleet.due:
            if not in_flight:
                break
            fleet.roll(but=in_flight[1:])
    fleet.settle()
    assert fleet.images() == [IMAGE_2] * 4
    assert sorted(fleet.changed) == names, "each once"


@pytest.mark.parametrize("turn", ["Skipped", 7])
def test_a_turn_of_a_newer_version_is_none_of_ours(turn: object) -> None:
    fleet = Fleet("kws-00")
    key = Key(VARIANT, NAMESPACE, "kws-00")
    before = fleet.live[key]
    fleet.put(
        {**before, "metadata": {"name": "kws-00"}, "status": {**before["status"], "rollout": {"turn": turn}}}
    )
    fleet.settle()
    assert "turn" not in fleet.live[key]["status"]["rollout"]
