"""Webhooks of alerts, as those read them who use the library of the Standard Webhooks specification."""

import base64
import json
import os

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError


def new_secret():
    return f"whsec_{base64.b64encode(os.urandom(32)).decode()}"


def test_deliveries_prove_whom_they_come_from_and_that_they_are_whole(world, hook, tmp_path):
    secret = new_secret()
    (tmp_path / "pager.secret").write_text(f"{secret}\n")
    world.cli("alerts", "receivers", "add", "pager", hook.url, "--secret-file", str(tmp_path / "pager.secret"))
    try:
        world.cli("alerts", "receivers", "test", "pager")
    finally:
        world.cli("alerts", "receivers", "rm", "pager")
    # An alert that fires just now would be told as well.
    [(headers, body)] = [(headers, body) for headers, body in hook.taken if json.loads(body)["type"] == "test"]
    assert headers["content-type"] == "application/json"
    assert Webhook(secret).verify(body, headers) == json.loads(body)

    def refused(body=body, headers=headers, secret=secret):
        with pytest.raises(WebhookVerificationError):
            Webhook(secret).verify(body, headers)

    refused(secret=new_secret())
    refused(body=body.replace(b"test", b"tost"))
    for name, other in [("webhook-id", "test-1"), ("webhook-timestamp", str(int(headers["webhook-timestamp"]) + 1))]:
        refused(headers={**headers, name: other})
