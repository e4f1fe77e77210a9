"""The model as every Python server of the comparison runs it: one session of ONNX Runtime, with one thread."""

import os

import numpy as np
import onnxruntime


class Model:
    def __init__(self):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            os.environ["SERVING_MODEL"], options, providers=["CPUExecutionProvider"]
        )
        self.row_shape = self.session.get_inputs()[0].shape[1:]

    def run(self, images):
        """`images` are rows of any shape that has the right number of elements."""
        images = np.ascontiguousarray(images, np.float32).reshape(-1, *self.row_shape)
        return self.session.run(["scores"], {"image": images})[0]
