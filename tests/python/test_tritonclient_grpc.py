"""`tritonclient[grpc]` against a gateway: gRPC on the port that HTTP is on."""

import queue

import numpy as np
import pytest
import tritonclient.grpc as triton
from test_tritonclient import expected, rows_of
from tritonclient.utils import InferenceServerException


@pytest.fixture(params=["us-east1", "europe-west1"])
def client(world, request):
    with triton.InferenceServerClient(world.gateway(request.param)) as client:
        yield client


def image_input(rows):
    tensor = triton.InferInput("image", list(rows.shape), "FP32")
    tensor.set_data_from_numpy(rows.astype(np.float32))
    return tensor


def test_server_and_model_are_live_and_ready(client):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("digits")
    assert client.is_model_ready("digits", "1")


def test_metadata_is_the_models_signature(client):
    assert client.get_server_metadata().name == "tradewind"
    metadata = client.get_model_metadata("digits")
    assert (metadata.name, list(metadata.versions)) == ("digits", ["1"])
    assert [(i.name, i.datatype, list(i.shape)) for i in metadata.inputs] == [("image", "FP32", [-1, 64])]
    outputs = {output.name: (output.datatype, list(output.shape)) for output in metadata.outputs}
    assert outputs == {"label": ("INT64", [-1]), "probabilities": ("FP32", [-1, 10])}


def test_golden_cases_give_their_answers(client, cases):
    for case in cases:
        result = client.infer("digits", [image_input(rows_of(case))], client_timeout=60)
        assert result.as_numpy("label").tolist() == expected(case, "label")["data"]
        np.testing.assert_allclose(
            result.as_numpy("probabilities").ravel(), expected(case, "probabilities")["data"], rtol=1e-4, atol=1e-5
        )


def test_calls_side_by_side_share_a_connection(client, cases):
    answers = queue.Queue()
    asked = cases * 5
    for case in asked:
        client.async_infer("digits", [image_input(rows_of(case))], lambda result, error: answers.put((result, error)))
    answered = [answers.get(timeout=60) for _ in asked]
    assert [error for _, error in answered if error] == []
    labels = sorted(label for case in asked for label in expected(case, "label")["data"])
    assert sorted(result.as_numpy("label")[0] for result, _ in answered) == labels


@pytest.mark.parametrize(
    "model, version, rows, code, words",
    [
        ("nobody", "", np.zeros((1, 64)), "NOT_FOUND", "nobody"),
        ("digits", "99", np.zeros((1, 64)), "NOT_FOUND", "99"),
        ("digits", "", np.zeros((1, 63)), "INVALID_ARGUMENT", "image"),
    ],
)
def test_what_is_wrong_is_said(client, model, version, rows, code, words):
    with pytest.raises(InferenceServerException) as refused:
        client.infer(model, [image_input(rows)], model_version=version)
    assert words in refused.value.message()
    assert code in refused.value.status()
