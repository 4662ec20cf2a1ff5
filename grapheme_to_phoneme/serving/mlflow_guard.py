"""Has MLflow's scoring server refuse what is wrong with a request before the model sees it.

MLflow (3.17) answers some malformed requests with the status 500, turns numbers into text, and
overlooks what it does not know. What is malformed must get a status from 400 on, whoever
starts the server, `mlflow models serve`, a container or `g2p`, so the model brings this along.
"""

import json
from functools import wraps
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc import scoring_server

PARAMETERS = frozenset({"n_best", "beam_size", "with_alignment"})

#: The input's only column.
WORD_COLUMN = "word"

#: The keys of a request that hold its words, in several forms of MLflow's.
FORMS = frozenset({"dataframe_split", "dataframe_records", "inputs", "instances"})

#: Those whose values MLflow turns into text.
TENSOR_KEYS = ("inputs", "instances")

#: What MLflow's readers raise, besides errors of its own, for what they cannot read.
UNREADABLE = (RecursionError, ValueError, TypeError, AttributeError, LookupError)


def refusal(message: str) -> MlflowException:
    """Return the exception that the server answers with the status 400."""
    return MlflowException(message, error_code=INVALID_PARAMETER_VALUE)


def guard_server(most_bytes: int) -> None:
    """Put the checks before the scoring server of this process.

    Args:
        most_bytes: longer requests are refused.
    """
    answer = scoring_server.invocations

    @wraps(answer)
    def guarded(data: bytes, content_type: str | None, *others: Any) -> Any:
        if content_type is None:
            return _plain("say the Content-Type, such as application/json", 415)
        if len(data) > most_bytes:
            return _plain(f"a request may have {most_bytes} bytes", 413)
        try:
            if content_type.partition(";")[0].strip() == scoring_server.CONTENT_TYPE_JSON:
                data = _checked_request(data)
            return answer(data, content_type, *others)
        except UNREADABLE as error:
            raise refusal(f"the request cannot be read: {type(error).__name__}") from error

    scoring_server.invocations = guarded


def _plain(message: str, status: int) -> scoring_server.InvocationsResponse:
    return scoring_server.InvocationsResponse(message, status, "text/plain")


def _checked_request(data: bytes) -> Any:
    """Return what a JSON request holds.

    Raises:
        MlflowException: if it has what MLflow overlooks.
    """
    request = json.loads(data)
    if not isinstance(request, dict):
        raise refusal('the request must be an object, such as {"inputs": ["word"]}')
    params = request.get(scoring_server.SERVING_PARAMS_KEY) or {}
    forms = sorted(FORMS.intersection(request))
    if len(forms) != 1:
        raise refusal(f"the request must have one of {', '.join(sorted(FORMS))}, not {forms}")
    unknown = [
        *(set(request) - {*FORMS, scoring_server.SERVING_PARAMS_KEY}),
        *(set(params) - PARAMETERS),
    ]
    if unknown:
        raise refusal(f"the request has unknown keys: {', '.join(sorted(unknown))}")
    for key in TENSOR_KEYS:
        if key in request:
            # MLflow makes arrays of these, in which every word takes the place of the longest.
            rows = [[word] for word in _column(request.pop(key), key)]
            request["dataframe_split"] = {"columns": [WORD_COLUMN], "data": rows}
    return request


def _column(value: Any, key: str) -> list[Any]:
    """Return the words of MLflow's forms ``inputs`` and ``instances``."""
    if isinstance(value, dict) and set(value) == {WORD_COLUMN}:
        value = value[WORD_COLUMN]
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        value = [row.get(WORD_COLUMN) if isinstance(row, dict) else row for row in value]
    if not isinstance(value, list):
        raise refusal(f'{key} must be words, such as ["tensor"] or {{"word": ["tensor"]}}')
    return value
