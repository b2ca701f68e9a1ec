"""The image's `serve` command: read SageMaker's variables and start the server."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from object2vec.data.media_types import canonical
from object2vec.errors import Object2VecError, UserError
from object2vec.hyperparameters.kinds import Integer
from object2vec.sagemaker.environment import Directories
from object2vec.serving.headers import FLAGS, TYPES, to_mode
from object2vec.serving.server import LOAD_SECONDS, MB, Machine, Settings, start


def serve() -> int:
    """Replace this process by the server that the environment describes. Return an exit status if it cannot start."""
    try:
        start(read_settings(os.environ))
    except Object2VecError as error:
        sys.stderr.write(f"serve: error: {error}\n")
        return error.exit_code


def read_settings(environment: Mapping[str, str], machine: Machine | None = None) -> Settings:
    """Return the settings in SageMaker's variables. An empty variable counts as not set.

    Raises:
        UserError: a variable has an invalid value.
    """
    given = {name: value for name, value in environment.items() if value}
    batch = _flag(given, "SAGEMAKER_BATCH")
    payload = _integer(given, "SAGEMAKER_MAX_PAYLOAD_IN_MB", 100 if batch else 25, least=0)
    workers = "SAGEMAKER_MODEL_SERVER_WORKERS"
    return Settings(
        model=Directories.from_environment(given).model,
        multi_model=_flag(given, "SAGEMAKER_MULTI_MODEL"),
        mode=to_mode(given.get("INFERENCE_PREFERRED_MODE", "classification"), "INFERENCE_PREFERRED_MODE"),
        port=_integer(given, "SAGEMAKER_BIND_TO_PORT", 8080, most=65_535),
        workers=_integer(given, workers, 1) if workers in given else None,
        timeout=_integer(given, "SAGEMAKER_MODEL_SERVER_TIMEOUT", LOAD_SECONDS),
        max_payload=payload * MB or None,  # 0 is no limit: batch transform then streams its input
        accept=_accept(given.get("SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT")),
        machine=machine or Machine.detect(),
    )


def _integer(given: Mapping[str, str], name: str, default: int, least: int = 1, most: int = 10**6) -> int:
    kind = Integer(least, most)
    text = given.get(name, str(default))
    try:
        return kind.parse(text)
    except ValueError:
        raise UserError(f"{name} is {text!r}, wanted {kind.wanted}") from None


def _flag(given: Mapping[str, str], name: str) -> bool:
    text = given.get(name, "false")
    if text.lower() not in FLAGS:
        raise UserError(f"{name} is {text!r}, wanted true or false")
    return FLAGS[text.lower()]


def _accept(text: str | None) -> str | None:
    if text is not None and canonical(text) not in TYPES:
        raise UserError(f"SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT is {text!r}, wanted {' or '.join(TYPES)}")
    return text
