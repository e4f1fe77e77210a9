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


def test_configuration_statistics_and_repository(client, cases):
    config = client.get_model_config("digits").config
    assert (config.name, config.max_batch_size, config.backend) == ("digits", 0, "onnxruntime")
    assert [(i.name, i.data_type, list(i.dims)) for i in config.input] == [("image", 11, [-1, 64])]
    client.infer("digits", [image_input(rows_of(cases[0]))])
    [statistics] = client.get_inference_statistics("digits").model_stats
    assert (statistics.name, statistics.version) == ("digits", "1")
    assert statistics.inference_count == statistics.inference_stats.success.count > 0
    assert ("digits", "1", "READY") in [(m.name, m.version, m.state) for m in client.get_model_repository_index().models]
    for change in (client.load_model, client.unload_model):
        with pytest.raises(InferenceServerException) as refused:
            change("digits")
        assert "PERMISSION_DENIED" in refused.value.status()


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_messages_may_be_compressed(client, cases, coding):
    rows = np.concatenate([rows_of(case) for case in cases] * 10)
    result = client.infer("digits", [image_input(rows)], compression_algorithm=coding)
    labels = [label for case in cases for label in expected(case, "label")["data"]]
    assert result.as_numpy("label").tolist() == labels * 10


def test_a_stream_answers_in_order_and_survives_a_bad_request(client, cases):
    answers = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    asked = [(str(number), case) for number, case in enumerate(cases * 5)]
    for id, case in asked:
        # One in the middle does not fit the model.
        rows = np.zeros((1, 63)) if id == "50" else rows_of(case)
        client.async_stream_infer("digits", [image_input(rows)], request_id=id)
    for id, case in asked:
        result, error = answers.get(timeout=60)
        if id == "50":
            assert "image" in error.message()
            continue
        assert error is None
        assert result.get_response().id == id
        assert result.as_numpy("label").tolist() == expected(case, "label")["data"]
    client.stop_stream()
    assert answers.empty()
