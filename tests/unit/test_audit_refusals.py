"""Errors as HTTP answers."""

import pytest

from bdserver import errors
from bdserver.audit.refusals import refuse

from .wsgi import answer


def answered(error, more=()):
    return answer(lambda environ, start_response: refuse(start_response, error, more))


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (errors.BadRequest, "400"),
        (errors.Forbidden, "403"),
        (errors.PolicyMismatch, "403"),
        (errors.CantFind, "404"),
        (errors.BadConfig, "500"),
        (errors.NotDrawn, "501"),
        (errors.BadFrame, "502"),
        (errors.BDError, "502"),
        (errors.NobodyThere, "503"),
        (errors.Refused, "503"),
        (errors.TooBusy, "503"),
        (errors.Deadline, "504"),
    ],
)
def test_each_error_has_a_status_that_fits_and_a_line_for_a_person(kind, status):
    said = answered(kind("this is why"))
    assert said["status"].startswith(status) and said["body"] == b"this is why\n"
    assert said["headers"]["Content-Type"].startswith("text/plain") and said["headers"]["Cache-Control"] == "no-store"
    assert said["headers"]["Content-Length"] == str(len(said["body"]))


def test_what_no_charset_can_say_is_said_all_the_same():
    assert answered(errors.BDError("a\udcffb"), [("Refresh", "5")])["body"] == b"a?b\n"
    assert answered(errors.BDError("x"), [("Refresh", "5")])["headers"]["Refresh"] == "5"
