"""`tritonclient`'s asynchronous clients against a gateway."""

import asyncio

import numpy as np
import pytest
import tritonclient.grpc.aio
import tritonclient.http.aio
from test_tritonclient import expected, rows_of
from tritonclient.utils import InferenceServerException

CLIENTS = {"http": tritonclient.http.aio, "grpc": tritonclient.grpc.aio}


def image_input(module, rows):
    tensor = module.InferInput("image", list(rows.shape), "FP32")
    tensor.set_data_from_numpy(rows.astype(np.float32))
    return tensor


@pytest.mark.parametrize("protocol", CLIENTS)
def test_many_at_once(world, cases, protocol):
    module = CLIENTS[protocol]

    async def labels():
        async with module.InferenceServerClient(world.gateway("us-east1")) as client:
            assert await client.is_model_ready("digits")
            asked = [client.infer("digits", [image_input(module, rows_of(case))]) for case in cases * 5]
            answers = await asyncio.gather(*asked)
            with pytest.raises(InferenceServerException, match="image"):
                await client.infer("digits", [image_input(module, np.zeros((1, 63)))])
            return [answer.as_numpy("label").tolist() for answer in answers]

    assert asyncio.run(labels()) == [expected(case, "label")["data"] for case in cases * 5]


def test_a_stream(world, cases):
    module = tritonclient.grpc.aio

    async def questions():
        for number, case in enumerate(cases):
            yield {"model_name": "digits", "inputs": [image_input(module, rows_of(case))], "request_id": str(number)}

    async def answers():
        async with module.InferenceServerClient(world.gateway("us-east1")) as client:
            return [answer async for answer in client.stream_infer(questions(), stream_timeout=60)]

    told = asyncio.run(answers())
    assert [error for _, error in told if error] == []
    assert [result.get_response().id for result, _ in told] == [str(number) for number in range(len(cases))]
    labels = [result.as_numpy("label").tolist() for result, _ in told]
    assert labels == [expected(case, "label")["data"] for case in cases]
