"""`tritonclient[http]` against a gateway: tensors as JSON, and binary as the client sends them unless told otherwise."""

import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException


@pytest.fixture(params=["us-east1", "europe-west1"])
def client(world, request):
    with triton.InferenceServerClient(world.gateway(request.param)) as client:
        yield client


def image_input(rows):
    tensor = triton.InferInput("image", list(rows.shape), "FP32")
    tensor.set_data_from_numpy(rows.astype(np.float32), binary_data=False)
    return tensor


def as_json(*names):
    return [triton.InferRequestedOutput(name, binary_data=False) for name in names]


def rows_of(case):
    image = case["request"]["inputs"][0]
    return np.array(image["data"], dtype=np.float32).reshape(image["shape"])


def expected(case, name):
    return next(output for output in case["expect"]["outputs"] if output["name"] == name)


def test_server_and_model_are_live_and_ready(client):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("digits")
    assert client.is_model_ready("digits", "1")
    assert not client.is_model_ready("nobody")


def test_metadata_is_the_models_signature(client):
    server = client.get_server_metadata()
    assert server["name"] == "tradewind"
    assert "extensions" in server and server["version"]
    metadata = client.get_model_metadata("digits")
    assert metadata["name"] == "digits"
    assert metadata["versions"] == ["1"]
    assert metadata["inputs"] == [{"name": "image", "datatype": "FP32", "shape": [-1, 64]}]
    outputs = {output["name"]: output for output in metadata["outputs"]}
    assert outputs["label"] == {"name": "label", "datatype": "INT64", "shape": [-1]}
    assert outputs["probabilities"] == {"name": "probabilities", "datatype": "FP32", "shape": [-1, 10]}


def test_golden_cases_give_their_answers(client, cases):
    for case in cases:
        result = client.infer("digits", [image_input(rows_of(case))], outputs=as_json("label", "probabilities"))
        assert result.as_numpy("label").tolist() == expected(case, "label")["data"]
        np.testing.assert_allclose(
            result.as_numpy("probabilities").ravel(), expected(case, "probabilities")["data"], rtol=1e-4, atol=1e-5
        )


def test_a_batch_is_answered_row_by_row(client, cases):
    rows = np.concatenate([rows_of(case) for case in cases])
    result = client.infer("digits", [image_input(rows)], outputs=as_json("label"), request_id="batch-of-20")
    labels = [label for case in cases for label in expected(case, "label")["data"]]
    assert result.as_numpy("label").tolist() == labels
    response = result.get_response()
    assert response["id"] == "batch-of-20"
    assert [output["name"] for output in response["outputs"]] == ["label"]


def test_binary_tensors_give_the_same_answers(client, cases):
    rows = np.concatenate([rows_of(case) for case in cases]).astype(np.float32)
    tensor = triton.InferInput("image", list(rows.shape), "FP32")
    tensor.set_data_from_numpy(rows)
    result = client.infer("digits", [tensor])
    as_text = client.infer("digits", [image_input(rows)], outputs=as_json("label", "probabilities"))
    assert result.as_numpy("label").tolist() == as_text.as_numpy("label").tolist()
    assert result.as_numpy("probabilities").dtype == np.float32
    np.testing.assert_allclose(result.as_numpy("probabilities"), as_text.as_numpy("probabilities"), rtol=1e-6)
    assert "binary_data_size" in result.get_output("label")["parameters"]


def test_the_version_can_be_named(client, cases):
    result = client.infer(
        "digits", [image_input(rows_of(cases[0]))], model_version="1", outputs=as_json("label")
    )
    assert result.get_response()["model_version"] == "1"


@pytest.mark.parametrize(
    "model, version, rows, words",
    [
        ("nobody", "", np.zeros((1, 64)), "nobody"),
        ("digits", "99", np.zeros((1, 64)), "99"),
        ("digits", "", np.zeros((1, 63)), "image"),
    ],
)
def test_what_is_wrong_is_said(client, model, version, rows, words):
    with pytest.raises(InferenceServerException) as refused:
        client.infer(model, [image_input(rows)], model_version=version, outputs=as_json("label"))
    assert words in refused.value.message()
    assert refused.value.status().startswith("4")


def test_configuration_statistics_and_repository(client, cases):
    config = client.get_model_config("digits")
    assert (config["name"], config["max_batch_size"], config["backend"]) == ("digits", 0, "onnxruntime")
    assert config["input"] == [{"name": "image", "data_type": "TYPE_FP32", "dims": [-1, 64]}]
    client.infer("digits", [image_input(rows_of(cases[0]))])
    [statistics] = client.get_inference_statistics("digits")["model_stats"]
    assert (statistics["name"], statistics["version"]) == ("digits", "1")
    assert statistics["inference_count"] == statistics["inference_stats"]["success"]["count"] > 0
    [entry] = [entry for entry in client.get_model_repository_index() if entry["name"] == "digits"]
    assert (entry["version"], entry["state"]) == ("1", "READY")
    for change in (client.load_model, client.unload_model):
        with pytest.raises(InferenceServerException, match="not loaded or unloaded through a gateway"):
            change("digits")
    with pytest.raises(InferenceServerException, match="name a model"):
        client.get_inference_statistics()


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_requests_and_answers_may_be_compressed(client, cases, coding):
    rows = np.concatenate([rows_of(case) for case in cases] * 10)
    tensor = triton.InferInput("image", list(rows.shape), "FP32")
    tensor.set_data_from_numpy(rows.astype(np.float32))
    result = client.infer(
        "digits", [tensor], request_compression_algorithm=coding, response_compression_algorithm=coding
    )
    labels = [label for case in cases for label in expected(case, "label")["data"]]
    assert result.as_numpy("label").tolist() == labels * 10
