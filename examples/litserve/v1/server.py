"""A model server with LitServe: says whether a text sounds glad, by the words in it."""

import argparse

import litserve

GLAD = {"good", "great", "glad", "lovely", "calm", "fair"}
SAD = {"bad", "sad", "awful", "stormy", "lost", "late"}


class Mood(litserve.LitAPI):
    def setup(self, device):
        self.weights = {**dict.fromkeys(GLAD, 1.0), **dict.fromkeys(SAD, -1.0)}

    def decode_request(self, request):
        return request["text"].lower().split()

    def predict(self, words):
        scores = [self.weights[word] for word in words if word in self.weights]
        return sum(scores) / len(scores) if scores else 0.0

    def encode_response(self, score):
        return {"score": score, "mood": "glad" if score > 0 else "sad" if score < 0 else "neither"}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    server = litserve.LitServer(Mood(), accelerator="cpu")
    server.run(host=options.host, port=options.port, generate_client_file=False)
