"""The policy table: what is not in it is denied."""

from __future__ import annotations

import pytest

from node.errors import AccessDeniedError
from node.messages import Purpose
from node.policy import POLICY, Method, require_allowed


@pytest.mark.parametrize("purpose", list(Purpose))
def test_member_may_ask_for_every_purpose_of_the_agreement(purpose: Purpose) -> None:
    require_allowed("33", Method.ASK, purpose)


def test_question_without_a_purpose_is_denied() -> None:
    with pytest.raises(AccessDeniedError, match="33 may not call ask for no purpose"):
        require_allowed("33", Method.ASK)


def test_health_check_takes_no_purpose() -> None:
    require_allowed("33", Method.HEALTH_CHECK)
    with pytest.raises(AccessDeniedError):
        require_allowed("33", Method.HEALTH_CHECK, Purpose.RETURN_HOME)


def test_method_without_a_row_is_denied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(POLICY, Method.ASK)
    with pytest.raises(AccessDeniedError):
        require_allowed("33", Method.ASK, Purpose.RETURN_HOME)
