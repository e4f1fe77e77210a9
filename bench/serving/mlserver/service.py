"""https://mlserver.readthedocs.io/en/stable/user-guide/custom.html"""

from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse
from onnx_model import Model


class OnnxModel(MLModel):
    async def load(self) -> bool:
        self.model = Model()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        images = NumpyCodec.decode_input(payload.inputs[0])
        scores = NumpyCodec.encode_output("scores", self.model.run(images))
        return InferenceResponse(model_name=self.name, outputs=[scores])
