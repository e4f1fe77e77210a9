"""https://kserve.github.io/website/docs/model-serving/predictive-inference/frameworks/custom-predictor"""

import sys

import kserve
from kserve import InferOutput, InferRequest, InferResponse
from onnx_model import Model


class OnnxModel(kserve.Model):
    def load(self):
        self.model = Model()
        self.ready = True

    def predict(self, payload: InferRequest, headers=None) -> InferResponse:
        scores = self.model.run(payload.inputs[0].as_numpy())
        output = InferOutput("scores", list(scores.shape), "FP32")
        binary = payload.from_grpc or bool((payload.parameters or {}).get("binary_data_output"))
        output.set_data_from_numpy(scores, binary_data=binary)
        return InferResponse(payload.id or "", self.name, [output], use_binary_outputs=binary)


if __name__ == "__main__":
    model = OnnxModel("model")
    model.load()
    kserve.ModelServer().start([model])
