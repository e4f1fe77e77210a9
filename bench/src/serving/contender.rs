//! Who is compared, and how each can be asked.

/// Its multiples spread evenly over each interval.
const GOLDEN_RATIO: f64 = 1.618_033_988_749_895;

/// A model server, or what stands for the best that one could be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(super) enum Contender {
    /// `tradewind replica`
    Tradewind,
    /// Its backend of Python
    Triton,
    Mlserver,
    Kserve,
    Bentoml,
    Ray,
    Litserve,
    /// ONNX Runtime in a loop, without a server
    Loop,
}

/// How a server is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Route {
    /// The Open Inference Protocol with tensors as JSON, or else the server's own route with the same numbers.
    Json,
    /// The Open Inference Protocol with binary tensors.
    Binary,
    /// The Open Inference Protocol, with raw tensors.
    Grpc,
    /// `GET /v2/health/live`: what the server's HTTP costs by itself.
    Health,
}

impl Contender {
    pub(super) const ALL: [Self; 8] = [
        Self::Tradewind,
        Self::Triton,
        Self::Mlserver,
        Self::Kserve,
        Self::Bentoml,
        Self::Ray,
        Self::Litserve,
        Self::Loop,
    ];
    /// Servers in Python.
    pub(super) const PYTHON: [Self; 5] = [Self::Mlserver, Self::Kserve, Self::Bentoml, Self::Ray, Self::Litserve];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Tradewind => "Tradewind",
            Self::Triton => "Triton, Python backend",
            Self::Mlserver => "MLServer",
            Self::Kserve => "KServe",
            Self::Bentoml => "BentoML",
            Self::Ray => "Ray Serve",
            Self::Litserve => "LitServe",
            Self::Loop => "bare loop",
        }
    }

    /// What `--only` and `--peer` call it.
    pub(super) fn key(self) -> &'static str {
        match self {
            Self::Tradewind => "tradewind",
            Self::Triton => "triton",
            Self::Mlserver => "mlserver",
            Self::Kserve => "kserve",
            Self::Bentoml => "bentoml",
            Self::Ray => "ray",
            Self::Litserve => "litserve",
            Self::Loop => "loop",
        }
    }

    /// Of PyPI, where it is from there.
    pub(super) fn package(self) -> Option<&'static str> {
        match self {
            Self::Tradewind | Self::Loop => None,
            Self::Triton => Some("nvidia-pytriton"),
            other => Some(other.key()),
        }
    }

    pub(super) fn routes(self) -> &'static [Route] {
        match self {
            Self::Tradewind | Self::Kserve => &[Route::Json, Route::Binary, Route::Grpc],
            Self::Triton => &[Route::Json, Route::Binary, Route::Grpc, Route::Health],
            Self::Mlserver => &[Route::Json, Route::Grpc],
            Self::Bentoml | Self::Ray | Self::Litserve => &[Route::Json],
            Self::Loop => &[],
        }
    }

    /// Whether it has the Open Inference Protocol.
    pub(super) fn speaks_v2(self) -> bool {
        self.routes().len() > 1
    }
}

impl Route {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Json => "JSON",
            Self::Binary => "binary",
            Self::Grpc => "gRPC",
            Self::Health => "health route",
        }
    }
}

/// What is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(super) enum Model {
    /// A perceptron, 64 to 128 to 10
    Small,
    /// The layers of ResNet-18
    Large,
}

impl Model {
    pub(super) const ALL: [Self; 2] = [Self::Small, Self::Large];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Large => "large",
        }
    }

    pub(super) fn file(self) -> &'static str {
        match self {
            Self::Small => "small.onnx",
            Self::Large => "large.onnx",
        }
    }

    /// Of one image.
    pub(super) fn shape(self) -> &'static [usize] {
        match self {
            Self::Small => &[64],
            Self::Large => &[3, 64, 64],
        }
    }

    pub(super) fn classes(self) -> usize {
        match self {
            Self::Small => 10,
            Self::Large => 1000,
        }
    }

    /// An image's elements: of both signs, and as many digits as numbers of measurement have.
    pub(super) fn image(self, number: usize) -> Vec<f32> {
        let count: usize = self.shape().iter().product();
        let begin = number * count;
        #[expect(clippy::cast_possible_truncation, reason = "rounded to what a tensor holds")]
        let element = |index: usize| ((index as f64 * GOLDEN_RATIO).fract() * 2.0 - 1.0) as f32;
        (begin..begin + count).map(element).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_differ_and_stay_in_their_range() {
        let images = [0, 1].map(|number| Model::Small.image(number));
        assert!(images[0] != images[1] && images.iter().flatten().all(|value| (-1.0..1.0).contains(value)));
        assert_eq!(Model::Large.image(3).len(), 3 * 64 * 64);
    }
}
