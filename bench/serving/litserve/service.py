"""https://lightning.ai/docs/litserve/features/batching"""

import os

import litserve
import numpy as np
from onnx_model import Model


class OnnxModel(litserve.LitAPI):
    def setup(self, device):
        self.model = Model()

    def decode_request(self, request):
        return np.array(request["rows"], np.float32)

    def batch(self, inputs):
        return np.concatenate(inputs)

    def predict(self, images):
        return self.model.run(images)

    def unbatch(self, output):
        return list(output[:, np.newaxis])

    def encode_response(self, output):
        return {"scores": output.tolist()}


if __name__ == "__main__":
    api = OnnxModel(max_batch_size=64, batch_timeout=0.001)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(os.environ["SERVING_PORT"]), num_api_servers=1, generate_client_file=False)
