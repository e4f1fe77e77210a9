"""https://docs.bentoml.com/en/latest/get-started/adaptive-batching.html"""

import bentoml
import numpy as np
from onnx_model import Model


@bentoml.service(workers=1, traffic={"timeout": 60})
class OnnxModel:
    def __init__(self):
        self.model = Model()

    @bentoml.api(route="/predict", batchable=True, max_batch_size=64, max_latency_ms=10_000)
    def predict(self, rows: np.ndarray) -> np.ndarray:
        return self.model.run(rows)
