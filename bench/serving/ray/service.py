"""https://docs.ray.io/en/latest/serve/advanced-guides/dyn-req-batch.html"""

import os

import numpy as np
import ray
from onnx_model import Model
from ray import serve
from starlette.requests import Request


@serve.deployment(num_replicas=1, max_ongoing_requests=512, ray_actor_options={"num_cpus": 0})
class OnnxModel:
    def __init__(self):
        self.model = Model()

    @serve.batch(max_batch_size=64, batch_wait_timeout_s=0)
    async def run(self, images: list[np.ndarray]) -> list[np.ndarray]:
        return list(self.model.run(np.stack(images)))

    async def __call__(self, request: Request) -> dict:
        image = np.array((await request.json())["rows"][0], np.float32)
        return {"scores": [(await self.run(image)).tolist()]}


if __name__ == "__main__":
    ray.init(num_cpus=1, include_dashboard=False, _temp_dir=os.path.join(os.getcwd(), "ray"))
    serve.start(http_options={"host": "127.0.0.1", "port": int(os.environ["SERVING_PORT"])})
    serve.run(OnnxModel.bind(), blocking=True)
