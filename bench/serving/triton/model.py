"""https://github.com/triton-inference-server/python_backend#execute"""

import numpy as np
import triton_python_backend_utils as triton
from onnx_model import Model


class TritonPythonModel:
    def initialize(self, args):
        self.model = Model()

    def execute(self, requests):
        images = [triton.get_input_tensor_by_name(request, "image").as_numpy() for request in requests]
        scores = self.model.run(np.concatenate(images) if len(images) > 1 else images[0])
        ends = np.cumsum([len(each) for each in images])
        return [
            triton.InferenceResponse([triton.Tensor("scores", part)]) for part in np.split(scores, ends[:-1])
        ]
