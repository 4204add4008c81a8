"""Every status as a program sees it: the class, the attributes, and the pickled copy."""

import copy
import json
import pickle
import traceback
from typing import Any

import pytest

import greenapi
from greenapi import Effect, Status
from standin import Standin

# One line for each status that an answer can cause: the fault, and the expected result.
ANSWERS: dict[str, tuple[dict[str, Any], Status, int, int, type[greenapi.Error]]] = {
    "code 404": (
        {"body": '{"code":404,"description":"Not found"}'},
        *(Status.NOT_FOUND, 404, 200, greenapi.NotFound),
    ),
    "code 401": (
        {"body": '{"code":401,"description":"Unauthorized"}'},
        *(Status.UNAUTHORIZED, 401, 200, greenapi.Unauthorized),
    ),
    "401": ({"status": 401}, Status.UNAUTHORIZED, 401, 401, greenapi.Unauthorized),
    "403": ({"status": 403}, Status.FORBIDDEN, 403, 403, greenapi.Forbidden),
    "429": ({"status": 429}, Status.RATE_LIMITED, 429, 429, greenapi.RateLimited),
    "flag false": (
        {"body": '{"deleteInstanceAccount":false}'},
        *(Status.REJECTED, 200, 200, greenapi.Rejected),
    ),
    "404 page": ({"status": 404}, Status.REJECTED, 404, 404, greenapi.Rejected),
    "466": ({"status": 466}, Status.REJECTED, 466, 466, greenapi.Rejected),
    "302": ({"status": 302}, Status.REJECTED, 302, 302, greenapi.Rejected),
    "502": ({"status": 502}, Status.SERVER_ERROR, 502, 502, greenapi.ServerError),
    "499": ({"status": 499}, Status.SERVER_ERROR, 499, 499, greenapi.ServerError),
    "not JSON": ({"body": "<html>"}, Status.BAD_RESPONSE, 200, 200, greenapi.BadResponse),
    "reset": (
        {"stage": "received", "then": "reset"},
        *(Status.CONNECTION_LOST, 0, 0, greenapi.ConnectionLost),
    ),
}

BUILTIN = {
    greenapi.InvalidArgument: ValueError,
    greenapi.ConnectFailed: ConnectionError,
    greenapi.ConnectionLost: ConnectionError,
    greenapi.Timeout: TimeoutError,
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_answer_becomes_an_error(standin: Standin, client: greenapi.Client, answer: str) -> None:
    fault, status, code, http_status, kind = ANSWERS[answer]
    [id_instance] = standin.instances(1)
    standin.fault(**fault)
    with pytest.raises(greenapi.Error) as caught:
        client.delete_instance(id_instance)
    error = caught.value
    assert type(error) is kind
    assert (error.status, error.code, error.id_instance) == (status, code, id_instance)
    assert error.http_status == http_status
    assert error.attempts == 1
    unknown = isinstance(error, greenapi.OutcomeUnknown)
    assert error.effect is (Effect.UNKNOWN if unknown else Effect.NOT_DELETED)
    assert error.message == str(error) == error.result.message != ""
    assert not error.result.ok
    assert standin.token not in "".join(
        traceback.format_exception(kind, error, error.__traceback__)
    )


def test_success_is_a_result(standin: Standin, client: greenapi.Client) -> None:
    [id_instance] = standin.instances(1)
    result = client.delete_instance(id_instance)
    assert result.ok
    assert result.effect is Effect.DELETED
    assert result[:5] == (id_instance, Status.OK, 200, 200, 1)
    assert result.raise_for_status() is result
    assert standin.deleted() == {id_instance}


def test_gone_is_a_success(standin: Standin) -> None:
    [id_instance] = standin.instances(1)
    standin.rule({"times": 1, "fault": {"stage": "acted", "then": "reset"}})
    with greenapi.Client(standin.url, standin.token) as client:
        result = client.delete_instance(id_instance)
    assert (result.status, result.code, result.attempts) == (Status.GONE, 404, 2)
    assert standin.deleted() == {id_instance}


def test_no_connection(standin: Standin) -> None:
    with greenapi.Client(standin.traps["refused"], standin.token, max_retries=0) as client, \
            pytest.raises(greenapi.ConnectFailed) as caught:  # fmt: skip
        client.delete_instance(1)
    assert caught.value.attempts == 0
    assert caught.value.effect is Effect.NOT_DELETED


@pytest.mark.parametrize(
    "trap", ["tls_expired", "tls_self_signed", "tls_unknown_ca", "tls_wrong_host"]
)
def test_certificates(standin: Standin, trap: str) -> None:
    url = standin.traps[trap]
    with greenapi.Client(url, standin.token, ca_file=standin.ca_file, max_retries=0) as client, \
            pytest.raises(greenapi.TLSFailed) as caught:  # fmt: skip
        client.delete_instance(1)
    assert caught.value.attempts == 0


def test_timeout(standin: Standin) -> None:
    [id_instance] = standin.instances(1)
    standin.hold()
    with greenapi.Client(standin.url, standin.token, timeout=0.2) as client, \
            pytest.raises(greenapi.Timeout) as caught:  # fmt: skip
        client.delete_instance(id_instance)
    assert caught.value.attempts == 1
    assert caught.value.effect is Effect.UNKNOWN


@pytest.mark.parametrize(
    ("session", "state", "kind"),
    [
        ("require_logged_out", "authorized", greenapi.SessionActive),
        ("require_logged_out", "blocked", greenapi.SessionActive),
        ("require_logged_out", "notAuthorized", None),
        ("log_out", "authorized", None),
        ("ignore", "authorized", None),
    ],
)
def test_session_policy(
    standin: Standin,
    session: Any,
    state: str,
    kind: Any,
) -> None:
    [id_instance] = standin.instances(1, state)
    with greenapi.Client(standin.url, standin.token, session=session) as client:
        if kind is None:
            assert client.delete_instance(id_instance).ok
        else:
            with pytest.raises(kind):
                client.delete_instance(id_instance)
    assert standin.deleted() == (set() if kind else {id_instance})


def test_session_that_cannot_be_learned(standin: Standin) -> None:
    [id_instance] = standin.instances(1)
    standin.rule({"method": "list", "fault": {"status": 200, "body": "<html>"}})
    with (
        greenapi.Client(
            standin.url, standin.token, session="require_logged_out", max_retries=0
        ) as client,
        pytest.raises(greenapi.SessionUnknown),
    ):
        client.delete_instance(id_instance)
    assert standin.deleted() == set()


@pytest.mark.parametrize("status", list(Status), ids=lambda status: status.name)
def test_every_status_has_its_error(status: Status) -> None:
    result = greenapi.Result(7, status, 200, 201, 3, "what happened")
    if result.ok:
        assert result.raise_for_status() is result
        return
    with pytest.raises(greenapi.Error) as caught:
        result.raise_for_status()
    error = caught.value
    words = status.name.title().replace("_", "")
    names = {"TlsFailed": "TLSFailed", "Internal": "InternalError"}
    assert type(error).__name__ == names.get(words, words)
    assert isinstance(error, greenapi.OutcomeUnknown) == (error.effect is Effect.UNKNOWN)
    assert isinstance(error, BUILTIN.get(type(error), Exception))
    for copied in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(copied) is type(error)
        assert copied.result == error.result == result
        assert str(copied) == "what happened"
        assert copied.args == error.args
    # As Celery's JSON backend rebuilds an error.
    rebuilt = type(error)(*json.loads(json.dumps(error.args)))
    assert rebuilt.result == result
    assert rebuilt.status is status


@pytest.mark.parametrize(
    ("number", "kind", "effect"),
    [
        (17, greenapi.Error, Effect.NOT_DELETED),
        (29, greenapi.Error, Effect.NOT_DELETED),
        (39, greenapi.OutcomeUnknown, Effect.UNKNOWN),
        (-1, greenapi.OutcomeUnknown, Effect.UNKNOWN),
        (2**31 - 1, greenapi.OutcomeUnknown, Effect.UNKNOWN),
    ],
)
def test_a_status_nobody_knows_yet(number: int, kind: type[greenapi.Error], effect: Effect) -> None:
    result = greenapi.Result(7, Status(number), 0, 0, 0, "new")
    with pytest.raises(greenapi.Error) as caught:
        result.raise_for_status()
    assert type(caught.value) is kind
    assert caught.value.effect is effect
    assert caught.value.status == number
    assert caught.value.status.name == f"STATUS_{number}"
    error = caught.value
    for copied in (
        *(pickle.loads(pickle.dumps(error, one)) for one in range(pickle.HIGHEST_PROTOCOL + 1)),
        copy.copy(error),
        copy.deepcopy(error),
    ):
        assert (type(copied), copied.result) == (kind, result)
        assert copied.status.name == f"STATUS_{number}"


def test_a_new_number_of_the_first_ten_is_a_success() -> None:
    assert greenapi.Result(7, Status(5), 0, 0, 0, "new").ok


def test_a_status_is_a_number() -> None:
    with pytest.raises(ValueError, match="abc"):
        Status("abc")  # type: ignore[arg-type]


def test_public_names_have_public_homes() -> None:
    for name in greenapi.__all__:
        if not name.startswith("__") and name != "SessionPolicy":
            assert getattr(greenapi, name).__module__ == "greenapi"
        assert name in dir(greenapi)
